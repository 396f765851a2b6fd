//! Bytes that no well-behaved client would send, the same ones for the same seed.

/// A pseudo-random number generator: xorshift64* (Vigna 2016), which needs no crate and repeats
/// itself exactly.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    state: u64,
}

impl Noise {
    /// A source that begins here.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed | 1 }
    }

    /// A number below `limit`, which must not be zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    /// A message: bytes without sense, or `template` with bytes changed, cut off or added.
    pub(crate) fn message(&mut self, template: &[u8]) -> Vec<u8> {
        let mut message = match self.below(8) {
            0 => return self.bytes(1500),
            1 => template.get(..self.below(template.len() + 1)).unwrap_or_default().to_vec(),
            2 => [template, &self.bytes(600)].concat(),
            _ => template.to_vec(),
        };
        for _ in 0..self.below(6) {
            let place = self.below(message.len());
            let value = self.odd_byte();
            if let Some(byte) = message.get_mut(place) {
                *byte = value;
            }
        }
        message
    }

    /// At most this many bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.odd_byte()).collect()
    }

    /// A byte; the ones at which lengths and signs turn over come often.
    fn odd_byte(&mut self) -> u8 {
        let [byte, which, ..] = self.next().to_be_bytes();
        match which {
            0..=31 => 0x00,
            32..=63 => 0xff,
            64..=79 => 0x7f,
            80..=95 => 0x80,
            96..=255 => byte,
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_noise() {
        let (mut one, mut other) = (Noise::new(7), Noise::new(7));
        for _ in 0..100 {
            assert_eq!(one.message(b"template"), other.message(b"template"));
        }
    }

    #[test]
    fn messages_differ_from_each_other() {
        let mut noise = Noise::new(7);
        let first = noise.message(b"template");
        assert!((0..100).any(|_| noise.message(b"template") != first));
    }
}
