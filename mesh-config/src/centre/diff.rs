//! The difference of two texts by lines, in the unified format that `diff -u` writes and `patch` reads.
//!
//! The shortest edit script by E. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986). Texts that have little in
//! common would cost the product of their lengths: beyond a bound all lines between the common ends are shown as replaced.

use std::fmt::Write as _;
use std::ops::Range;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Edits beyond which nobody looks for the shortest script.
const MAX_EDITS: usize = 2_000;

/// The difference; empty if there is none.
#[must_use]
pub fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (lines(old), lines(new));
    let hunks = hunks(&edits(&before, &after));
    if hunks.is_empty() {
        return String::new();
    }
    let mut text = format!("--- {old_name}\n+++ {new_name}\n");
    for hunk in hunks {
        hunk.write(&before, &after, &mut text);
    }
    text
}

/// With their ends, so that a missing last one is a difference.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Lines of the one text that stand in the place of lines of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    old: Range<usize>,
    new: Range<usize>,
}

fn edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let same_end = old_rest.iter().rev().zip(new_rest.iter().rev());
    let end = same_end.take_while(|(a, b)| a == b).count();
    let old_middle = &old_rest[..old_rest.len() - end];
    let new_middle = &new_rest[..new_rest.len() - end];
    if old_middle.is_empty() && new_middle.is_empty() {
        return Vec::new();
    }
    let found = shortest(old_middle, new_middle).unwrap_or_else(|| {
        vec![Edit {
            old: 0..old_middle.len(),
            new: 0..new_middle.len(),
        }]
    });
    let moved = |range: Range<usize>| range.start + start..range.end + start;
    let moved = found.into_iter().map(|edit| Edit {
        old: moved(edit.old),
        new: moved(edit.new),
    });
    moved.collect()
}

/// Furthest points by diagonal after each number of edits, then the way back. `None`: it would take too many.
fn shortest(old: &[&str], new: &[&str]) -> Option<Vec<Edit>> {
    let (n, m) = (old.len() as isize, new.len() as isize);
    let most = (old.len() + new.len()).min(MAX_EDITS) as isize;
    let width = 2 * most + 3;
    let at = |k: isize| (k + most + 1) as usize;
    let mut furthest = vec![0_isize; width as usize];
    let mut trace: Vec<Vec<isize>> = Vec::new();
    for d in 0..=most {
        // Only the diagonals of this round have changed: they are all that the way back needs.
        trace.push(furthest[at(-d - 1)..=at(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && furthest[at(k - 1)] < furthest[at(k + 1)]);
            let mut x = if down {
                furthest[at(k + 1)]
            } else {
                furthest[at(k - 1)] + 1
            };
            while x < n && x - k < m && old[x as usize] == new[(x - k) as usize] {
                x += 1;
            }
            furthest[at(k)] = x;
            if x >= n && x - k >= m {
                return Some(way_back(&trace, n, m));
            }
        }
    }
    None
}

fn way_back(trace: &[Vec<isize>], n: isize, m: isize) -> Vec<Edit> {
    let (mut x, mut y) = (n, m);
    let mut edits: Vec<Edit> = Vec::new();
    for (d, furthest) in trace.iter().enumerate().rev() {
        let (d, k) = (d as isize, x - y);
        if d == 0 {
            break;
        }
        let of = |k: isize| furthest[(k + d + 1) as usize];
        let down = k == -d || (k != d && of(k - 1) < of(k + 1));
        let before = if down { k + 1 } else { k - 1 };
        let (from_x, from_y) = (of(before), of(before) - before);
        let (old, new) = if down {
            (from_x..from_x, from_y..from_y + 1)
        } else {
            (from_x..from_x + 1, from_y..from_y)
        };
        let range = |range: Range<isize>| range.start as usize..range.end as usize;
        let edit = Edit {
            old: range(old),
            new: range(new),
        };
        match edits.last_mut() {
            Some(next) if edit.old.end == next.old.start && edit.new.end == next.new.start => {
                next.old.start = edit.old.start;
                next.new.start = edit.new.start;
            }
            _ => edits.push(edit),
        }
        (x, y) = (from_x, from_y);
    }
    edits.reverse();
    edits
}

/// Edits that share their context.
struct Hunk(Vec<Edit>);

fn hunks(edits: &[Edit]) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    for edit in edits {
        let near = |hunk: &&mut Hunk| {
            let last = hunk.0.last();
            last.is_some_and(|last| edit.old.start - last.old.end <= 2 * CONTEXT)
        };
        match hunks.last_mut().filter(near) {
            Some(hunk) => hunk.0.push(edit.clone()),
            None => hunks.push(Hunk(vec![edit.clone()])),
        }
    }
    hunks
}

impl Hunk {
    fn write(&self, old: &[&str], new: &[&str], text: &mut String) {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return;
        };
        let before = first.old.start.min(CONTEXT);
        let after = (old.len() - last.old.end).min(CONTEXT);
        let old_lines = first.old.start - before..last.old.end + after;
        let new_lines = first.new.start - before..last.new.end + after;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "@@ -{} +{} @@", place(&old_lines), place(&new_lines));
        let mut at = old_lines.start;
        for edit in &self.0 {
            put(text, ' ', &old[at..edit.old.start]);
            put(text, '-', &old[edit.old.clone()]);
            put(text, '+', &new[edit.new.clone()]);
            at = edit.old.end;
        }
        put(text, ' ', &old[at..old_lines.end]);
    }
}

/// `FIRST,COUNT`, counted from 1; of no lines: the one before.
fn place(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn put(text: &mut String, mark: char, lines: &[&str]) {
    for line in lines {
        text.push(mark);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_reads_as_diff_writes_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
        let new = "a\nb\nC\nd\ne\nf\ng\nh\ni\nk\nj";
        assert_eq!(
            unified(old, new, "old", "new"),
            "--- old\n+++ new\n@@ -1,10 +1,11 @@\n a\n b\n-c\n+C\n d\n e\n f\n g\n h\n i\n-j\n+k\n+j\n\\ No newline at end of file\n"
        );
        assert_eq!(unified(old, old, "old", "new"), "");
        assert_eq!(
            unified("", "a\n", "0", "1"),
            "--- 0\n+++ 1\n@@ -0,0 +1 @@\n+a\n"
        );
    }

    #[test]
    fn texts_with_nothing_in_common_are_replaced() {
        let lines = |prefix: &str| {
            (0..3_000)
                .map(|n| format!("{prefix}{n}\n"))
                .collect::<String>()
        };
        let text = unified(&lines("a"), &lines("b"), "0", "1");
        assert_eq!(text.lines().count(), 6_003);
    }

    /// The new text, from the old one and the edits.
    fn applied(old: &[&str], new: &[&str], edits: &[Edit]) -> Vec<String> {
        let mut made = Vec::new();
        let mut at = 0;
        for edit in edits {
            made.extend(old[at..edit.old.start].iter().map(ToString::to_string));
            made.extend(new[edit.new.clone()].iter().map(ToString::to_string));
            at = edit.old.end;
        }
        made.extend(old[at..].iter().map(ToString::to_string));
        made
    }

    /// The length of the longest common subsequence, by the table that everybody knows.
    fn common(old: &[&str], new: &[&str]) -> usize {
        let mut row = vec![0; new.len() + 1];
        for a in old {
            let mut corner = 0;
            for (j, b) in new.iter().enumerate() {
                let up = row[j + 1];
                row[j + 1] = if a == b { corner + 1 } else { up.max(row[j]) };
                corner = up;
            }
        }
        row[new.len()]
    }

    proptest! {
        #[test]
        fn edits_make_the_new_text_and_are_the_fewest(
            old in prop::collection::vec("[abc]", 0..12), new in prop::collection::vec("[abc]", 0..12),
        ) {
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            let edits = edits(&old, &new);
            prop_assert_eq!(applied(&old, &new, &edits), new.clone());
            let changed: usize = edits.iter().map(|edit| edit.old.len() + edit.new.len()).sum();
            prop_assert_eq!(changed, old.len() + new.len() - 2 * common(&old, &new));
        }
    }
}
