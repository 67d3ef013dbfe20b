//! Unsigned numbers in as few octets as they need: seven bits each, lowest first, the high bit meaning
//! "more follows".

/// The most octets a number takes.
pub(super) const LEN_MAX: usize = 10;

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends each of `values`.
pub(super) fn put_all<const N: usize>(out: &mut Vec<u8>, values: [u64; N]) {
    for value in values {
        put(out, value);
    }
}

/// Reads octets from the front of a slice. Every method returns `None` when too few are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// A number; also `None` if it does not fit 64 bits.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if octet & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number that must fit 32 bits.
    pub(super) fn number_u32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A length followed by as many octets.
    pub(super) fn octets(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }

    pub(super) fn u32_be(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    pub(super) fn u64_be(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_number_takes_ten_octets_and_comes_back() {
        let mut out = Vec::new();
        put(&mut out, u64::MAX);
        assert_eq!(out.len(), LEN_MAX);
        assert_eq!(Reader::new(&out).number(), Some(u64::MAX));
    }

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        let octets = [0xff_u8; 9].into_iter().chain([2]).collect::<Vec<_>>();
        assert_eq!(Reader::new(&octets).number(), None);
        assert_eq!(Reader::new(&[0x80; 12]).number(), None);
    }

    proptest! {
        #[test]
        fn any_number_comes_back(value: u64) {
            let mut out = Vec::new();
            put(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number(), Some(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_octets_never_panic(octets: Vec<u8>) {
            let mut reader = Reader::new(&octets);
            while reader.octets().is_some() {}
        }
    }
}
