//! The rules for the index of a blocking query, as Consul's documentation has them, pure: it is reset when it goes backwards
//! (a restored server), it is never 0 after an answer (a query with 0 does not block), and one that cannot be is not believed.
//!
//! <https://developer.hashicorp.com/consul/api-docs/features/blocking#implementation-details>

/// Consul counts its log's entries; what is larger than this no cluster will ever write.
const MAX: u64 = 1 << 62;

/// What to send as `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Index(u64);

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Something may have changed: the first answer, a higher index, or a server that was restored.
    On,
    /// The wait is over, and nothing changed.
    Not,
    /// The answer has no index to believe: queries that follow may not block at all.
    Unknown,
}

impl Index {
    /// What to ask with; `None`: do not block.
    pub(crate) fn ask(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }

    /// As it is in the latest answer, 0 before any.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn advance(&mut self, answered: Option<u64>) -> Moved {
        let before = self.0;
        match answered.filter(|index| (1..=MAX).contains(index)) {
            None => {
                // At least 1, so that the next query blocks if it can.
                self.0 = 1;
                Moved::Unknown
            }
            Some(index) if index == before => Moved::Not,
            Some(index) => {
                self.0 = if index < before { 0 } else { index };
                Moved::On
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_index_goes_on_stays_or_is_reset() {
        let mut index = Index::default();
        assert_eq!(index.ask(), None, "the first query does not block");
        assert_eq!(index.advance(Some(7)), Moved::On);
        assert_eq!(index.advance(Some(7)), Moved::Not);
        assert_eq!((index.advance(Some(9)), index.ask()), (Moved::On, Some(9)));
        assert_eq!(
            (index.advance(Some(3)), index.ask()),
            (Moved::On, None),
            "backwards: asked again without blocking"
        );
        assert_eq!((index.advance(Some(3)), index.ask()), (Moved::On, Some(3)));
    }

    proptest! {
        #[test]
        fn after_an_answer_a_query_blocks_unless_the_index_went_backwards(answers: Vec<Option<u64>>) {
            let mut index = Index::default();
            for answer in answers {
                let before = index.get();
                let moved = index.advance(answer);
                let believed = answer.filter(|answer| (1..=MAX).contains(answer));
                match believed {
                    None => prop_assert_eq!((moved, index.ask()), (Moved::Unknown, Some(1))),
                    Some(answer) if answer < before => prop_assert_eq!(index.ask(), None),
                    Some(answer) => prop_assert_eq!(index.ask(), Some(answer)),
                }
                prop_assert_eq!(moved == Moved::Not, believed == Some(before));
            }
        }
    }
}
