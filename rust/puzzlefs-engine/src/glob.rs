//! Glob patterns over bytes, with the meaning of Python's `fnmatch.fnmatchcase`.
//!
//! `*` is any bytes, `?` any one, `[abx-z]` one of these, `[!abx-z]` none of these; a bracket that
//! nothing closes is itself. No byte is special besides, neither a slash nor a leading dot.

/// A pattern that is matched against whole names.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Many,
    Any,
    Byte(u8),
    /// First and last byte of each range, and whether a match is one that is in none.
    Class(Vec<(u8, u8)>, bool),
}

impl Glob {
    /// Reads a pattern; every sequence of bytes is one.
    pub(crate) fn new(pattern: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            let class = if first == b'[' { class(after) } else { None };
            rest = class.as_ref().map_or(after, |(_, after)| after);
            parts.push(match (first, class) {
                (_, Some((part, _))) => part,
                (b'*', _) => Part::Many,
                (b'?', _) => Part::Any,
                (byte, _) => Part::Byte(byte),
            });
        }
        Self(parts)
    }

    /// Tells whether all of `text` matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // The last star, and where the text after what it stands for begins: only the last one
        // ever needs to stand for more.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(part), text.get(at)) {
                (None, None) => return true,
                (Some(Part::Many), _) => {
                    part += 1;
                    star = Some((part, at));
                    continue;
                }
                (Some(one), Some(&byte)) if one.takes(byte) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            match &mut star {
                Some((after, from)) if *from < text.len() => {
                    *from += 1;
                    (part, at) = (*after, *from);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Many | Self::Any => true,
            Self::Byte(own) => *own == byte,
            Self::Class(ranges, negated) => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&byte));
                inside != *negated
            }
        }
    }
}

/// Reads a class after its opening bracket; returns it and what follows, or `None` where it is not closed.
fn class(text: &[u8]) -> Option<(Part, &[u8])> {
    let negated = text.first() == Some(&b'!');
    let text = &text[usize::from(negated)..];
    // A closing bracket in the first place is one of the bytes.
    let end = 1 + text.get(1..)?.iter().position(|&byte| byte == b']')?;
    let mut ranges = Vec::new();
    let mut rest = &text[..end];
    while let Some((&low, after)) = rest.split_first() {
        rest = after;
        let high = match after {
            [b'-', high, ..] => {
                rest = &after[2..];
                *high
            }
            _ => low,
        };
        ranges.push((low, high));
    }
    Some((Part::Class(ranges, negated), &text[end + 1..]))
}
