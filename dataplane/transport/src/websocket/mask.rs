//! Unmasking (RFC 6455 section 5.3), eight bytes at a time.

/// The mask, turned to where the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    pub(super) fn new(mask: [u8; 4]) -> Self {
        Self(mask)
    }

    /// Unmasks the payload's next bytes.
    pub(super) fn apply(&mut self, payload: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, rest) = payload.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= mask;
        }
        self.0.rotate_left(rest.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_unmask_as_the_whole() {
        let plain: Vec<u8> = (0..=255).collect();
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let masked: Vec<u8> =
            plain.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        for piece in 1..40 {
            let mut bytes = masked.clone();
            let mut turned = Mask::new(mask);
            bytes.chunks_mut(piece).for_each(|piece| turned.apply(piece));
            assert_eq!(bytes, plain, "in pieces of {piece}");
        }
    }
}
