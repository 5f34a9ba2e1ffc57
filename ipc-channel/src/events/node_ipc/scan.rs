//! One pass over JSON text that checks it, finds its parts and builds nothing.

use std::borrow::Cow;

use super::{MAX_DEPTH, WireError};

/// A position in a text that should be JSON. Nesting takes a bit, not a call.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    max_depth: usize,
}

/// What stands between two quotes, not yet unescaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    raw: &'a str,
    is_escaped: bool,
}

impl<'a> Scanner<'a> {
    /// A scanner that grants values so many levels, [`MAX_DEPTH`] at most.
    pub(super) fn new(text: &'a str, max_depth: usize) -> Self {
        Self { text, at: 0, max_depth: max_depth.min(MAX_DEPTH) }
    }

    /// The byte after any white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.here() {
            self.at += 1;
        }
        self.here()
    }

    /// Steps over this byte, after any white space, if it is the next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), WireError> {
        if self.take(byte) { Ok(()) } else { Err(self.not_json()) }
    }

    /// Expects that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), WireError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.not_json()) }
    }

    /// A key and its colon.
    pub(super) fn key(&mut self) -> Result<Text<'a>, WireError> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// One string.
    pub(super) fn string(&mut self) -> Result<Text<'a>, WireError> {
        self.expect(b'"')?;
        let (start, mut is_escaped) = (self.at, false);
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ');
            self.at += plain.unwrap_or(rest.len());
            match self.here() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text { raw: &self.text[start..self.at - 1], is_escaped });
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.not_json()),
            }
        }
    }

    /// One value of any kind: its text.
    pub(super) fn value(&mut self) -> Result<&'a str, WireError> {
        self.peek();
        let start = self.at;
        let mut open = Open { kinds: 0, depth: 0, max: self.max_depth };
        loop {
            // A value is due.
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'[') => {
                    self.at += 1;
                    open.enter(Kind::Array)?;
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                Some(b'{') => {
                    self.at += 1;
                    open.enter(Kind::Object)?;
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.not_json()),
            }
            // It is complete, or an empty array or object is open; now what stands around it goes on or ends.
            loop {
                match (open.innermost(), self.peek_within(open.depth)) {
                    (None, _) => return Ok(&self.text[start..self.at]),
                    (Some(Kind::Array), Some(b']')) | (Some(Kind::Object), Some(b'}')) => {
                        self.at += 1;
                        open.leave();
                    }
                    (Some(Kind::Array), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(Kind::Object), Some(b',')) => {
                        self.at += 1;
                        self.key()?;
                        break;
                    }
                    _ => return Err(self.not_json()),
                }
            }
        }
    }

    /// As `peek`, but white space behind the outermost value is not part of it.
    fn peek_within(&mut self, depth: usize) -> Option<u8> {
        if depth == 0 { None } else { self.peek() }
    }

    /// A backslash and what it stands before.
    fn escape(&mut self) -> Result<(), WireError> {
        self.at += 1;
        match self.here() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.here().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.not_json());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.not_json()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), WireError> {
        self.at += usize::from(self.here() == Some(b'-'));
        if self.here() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.here() {
            self.at += 1;
            self.at += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), WireError> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(self.not_json()) }
    }

    fn literal(&mut self, word: &str) -> Result<(), WireError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.not_json());
        }
        self.at += word.len();
        Ok(())
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn not_json(&self) -> WireError {
        WireError::NotJson { at: self.at }
    }
}

impl<'a> Text<'a> {
    /// Whether it is this string.
    pub(super) fn is(&self, other: &str) -> bool {
        self.unescape().is_some_and(|text| text == other)
    }

    /// What it stands for; `None` when it has a surrogate without its partner.
    pub(super) fn unescape(&self) -> Option<Cow<'a, str>> {
        if !self.is_escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let mut text = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some((plain, escape)) = rest.split_once('\\') {
            text.push_str(plain);
            let (kind, after) = escape.split_at_checked(1)?;
            rest = after;
            text.push(match kind {
                "b" => '\u{8}',
                "f" => '\u{c}',
                "n" => '\n',
                "r" => '\r',
                "t" => '\t',
                "u" => match unit(&mut rest)? {
                    high @ 0xd800..=0xdbff => {
                        rest = rest.strip_prefix("\\u")?;
                        let low = unit(&mut rest)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)?
                    }
                    unit => char::from_u32(unit)?,
                },
                itself => itself.chars().next()?,
            });
        }
        text.push_str(rest);
        Some(Cow::Owned(text))
    }
}

/// Takes four hexadecimal digits.
fn unit(rest: &mut &str) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    u32::from_str_radix(digits, 16).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Object,
}

/// The arrays and objects that are open, one bit each, the innermost lowest: 1 is an object.
struct Open {
    kinds: u128,
    depth: usize,
    max: usize,
}

impl Open {
    fn enter(&mut self, kind: Kind) -> Result<(), WireError> {
        if self.depth == self.max {
            return Err(WireError::Depth { max: self.max });
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | u128::from(kind == Kind::Object);
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.kinds >>= 1;
    }

    fn innermost(&self) -> Option<Kind> {
        let kind = if self.kinds & 1 == 1 { Kind::Object } else { Kind::Array };
        (self.depth > 0).then_some(kind)
    }
}
