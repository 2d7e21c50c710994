//! Choices read from an input. Behind its end every choice is the first one.

/// What is left of an input.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// From the beginning.
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// A yes or a no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number of any size; most are small or at the end of the range.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..=0xEF => u32::from(small),
            0xF0..=0xF7 => u32::from(self.short()),
            0xF8..=0xFD => u32::from(self.short()) << 16 | u32::from(self.short()),
            0xFE => u32::MAX - 1,
            0xFF => u32::MAX,
        }
    }

    /// One of `all`, which are not none.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// The next bytes, at most 63 of them.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte() & 63).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }

    /// The next bytes, as far as they are text without U+0000.
    pub fn text(&mut self) -> &'a str {
        let bytes = self.bytes();
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}
