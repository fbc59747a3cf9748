//! Scalars as what a key wants them to be.

use std::collections::HashSet;
use std::hash::Hash;
use std::num::{NonZeroU32, NonZeroUsize};

use super::Value;
use crate::model::{ByteSize, Share, Timeout};
use crate::report::Report;
use crate::schema::Choices;
use crate::suggest;
use crate::yaml::{Kind, Scalar};

impl<'n> Value<'n> {
    fn scalar(&self) -> Option<&'n Scalar> {
        match &self.node.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Whether it is text, and there is nothing in it.
    pub(crate) fn is_empty_text(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.text.is_empty())
    }

    /// Text that is not empty.
    pub(crate) fn text(&self, report: &mut Report) -> Option<&'n str> {
        match self.scalar().map(Scalar::as_text) {
            Some(Some("")) => self.wrong(report, "this text is empty: give one or remove the key"),
            Some(Some(text)) => Some(text),
            Some(None) if !self.node.is_null() => {
                self.not(report, "it has to be text, so put it in quotes")
            }
            _ => self.not(report, "it has to be text"),
        }
    }

    /// Text that `parse` understands; its error is reported.
    pub(crate) fn parsed<T>(
        &self,
        report: &mut Report,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        // A number where an address belongs should hear of addresses, not of quotes.
        if let Some(scalar) = self.scalar()
            && scalar.as_text().is_none()
            && let Err(why) = parse(&scalar.text)
        {
            return self.wrong(report, why);
        }
        parse(self.text(report)?).map_or_else(|why| self.wrong(report, why), Some)
    }

    /// A list in which nothing comes twice, of texts that `parse` understands.
    pub(crate) fn set<T: Clone + Eq + Hash>(
        &self,
        report: &mut Report,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let mut seen = HashSet::new();
        let mut set = Vec::new();
        for item in self.items(report)? {
            match item.parsed(report, parse) {
                Some(one) if seen.insert(one.clone()) => set.push(one),
                Some(_) => item.problem(report, "this is listed already: remove it"),
                None => {}
            }
        }
        Some(set)
    }

    /// A duration such as `250ms`.
    pub(crate) fn timeout(&self, report: &mut Report) -> Option<Timeout> {
        self.quantity(report, Timeout::parse, Timeout::FORM)
    }

    /// A size such as `4MiB`.
    pub(crate) fn size(&self, report: &mut Report) -> Option<ByteSize> {
        self.quantity(report, ByteSize::parse, ByteSize::FORM)
    }

    /// A percentage of something, such as `5%`.
    pub(crate) fn share(&self, report: &mut Report) -> Option<Share> {
        self.quantity(report, Share::parse, Share::FORM)
    }

    /// A percentage of something that is not zero.
    pub(crate) fn some_share(&self, report: &mut Report) -> Option<Share> {
        self.quantity(report, Share::parse_some, Share::FORM)
    }

    /// A percentage that may exceed 100%.
    pub(crate) fn any_share(&self, report: &mut Report) -> Option<Share> {
        self.quantity(report, Share::parse_any, Share::FORM)
    }

    /// Text with a unit. A number without one is not told about quotes, but about units.
    fn quantity<T>(
        &self,
        report: &mut Report,
        parse: impl Fn(&str) -> Result<T, String>,
        form: &str,
    ) -> Option<T> {
        match self.scalar() {
            Some(scalar) => parse(&scalar.text).map_or_else(|why| self.wrong(report, why), Some),
            None => self.not(report, form),
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, report: &mut Report) -> Option<bool> {
        let boolean = self.scalar().and_then(Scalar::boolean);
        boolean.or_else(|| self.not(report, "write true or false, without quotes"))
    }

    /// A whole number from 0.
    pub(crate) fn count(&self, report: &mut Report) -> Option<usize> {
        let Some(integer) = self.scalar().and_then(Scalar::integer) else {
            return self.not(report, "write a whole number, without quotes");
        };
        match u32::try_from(integer) {
            Ok(count) => usize::try_from(count).ok(),
            Err(_) if integer < 0 => self.wrong(report, format!("{integer} is below 0")),
            Err(_) => self.wrong(
                report,
                format!("{integer} is too large: at most {}", u32::MAX),
            ),
        }
    }

    /// A whole number from 1.
    pub(crate) fn positive(&self, report: &mut Report) -> Option<NonZeroUsize> {
        let count = self.count(report)?;
        NonZeroUsize::new(count).or_else(|| self.wrong(report, "0 is too small: at least 1"))
    }

    /// A whole number from 1, for what is no size in memory.
    pub(crate) fn positive_number(&self, report: &mut Report) -> Option<NonZeroU32> {
        self.positive(report)
            .and_then(|number| NonZeroU32::try_from(number).ok())
    }

    /// A whole number from 1 to `max`.
    pub(crate) fn up_to(&self, max: NonZeroU32, report: &mut Report) -> Option<NonZeroU32> {
        match self.positive_number(report)? {
            number if number <= max => Some(number),
            number => self.wrong(report, format!("{number} is too large: at most {max}")),
        }
    }

    /// A status of HTTP that is an error.
    pub(crate) fn error_status(&self, report: &mut Report) -> Option<u16> {
        match u16::try_from(self.count(report)?) {
            Ok(status @ 400..=599) => Some(status),
            _ => self.wrong(report, "an error has a status from 400 to 599"),
        }
    }

    /// A whole number from 1, as a weight.
    pub(crate) fn weight(&self, report: &mut Report) -> Option<NonZeroU32> {
        let count = self.count(report)?;
        let weight = u32::try_from(count).ok().and_then(NonZeroU32::new);
        weight.or_else(|| {
            self.wrong(
                report,
                "a weight of 0 would never be picked: at least 1, or remove the entry",
            )
        })
    }

    /// One of the words of `choices`.
    pub(crate) fn choice<T: Copy>(&self, choices: Choices<T>, report: &mut Report) -> Option<T> {
        let words = || {
            choices
                .iter()
                .filter(|(_, value)| value.is_some())
                .map(|(word, _)| *word)
        };
        let Some(word) = self.scalar().map(|scalar| scalar.text.as_str()) else {
            return self.not(report, &format!("write one of {}", suggest::list(words())));
        };
        match choices.iter().find(|(choice, _)| *choice == word) {
            Some((_, Some(value))) => Some(*value),
            Some((_, None)) => self.wrong(
                report,
                format!(
                    "{word}: not in this version; use one of {}",
                    suggest::list(words())
                ),
            ),
            None => {
                let suggestion =
                    suggest::did_you_mean(word, choices.iter().map(|(choice, _)| *choice));
                let known = suggest::list(words());
                self.wrong(
                    report,
                    format!("unknown word `{word}`{suggestion} (known here: {known})"),
                )
            }
        }
    }
}
