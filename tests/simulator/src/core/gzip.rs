//! A gzip bomb: a file that is small on the wire and huge in memory (RFC 1951, RFC 1952).
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. It is a right gzip file: any reader unpacks it to exactly the text asked for.
//! 2. One byte for about 158 of a run.

/// `before`, so many times `x`, and `after`, packed.
pub(crate) fn packed_run(before: &[u8], run: usize, after: &[u8]) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255], hold: 0, held: 0 };
    // One last block, with the codes that RFC 1951 fixes.
    bits.put(1, 1);
    bits.put(1, 2);
    for byte in before {
        bits.literal(*byte);
    }
    if run > 0 {
        bits.literal(b'x');
    }
    let repeated = run.saturating_sub(1);
    for _ in 0..repeated / 258 {
        // Length 258 is code 285, distance 1 is code 0.
        bits.code(0b1100_0101, 8);
        bits.code(0, 5);
    }
    let rest = std::iter::repeat_n(&b'x', repeated % 258);
    for byte in rest.chain(after) {
        bits.literal(*byte);
    }
    bits.code(0, 7);
    bits.put(0, 7);
    let text = before.iter().copied().chain(std::iter::repeat_n(b'x', run)).chain(after.iter().copied());
    let mut file = bits.bytes;
    file.extend_from_slice(&checksum(text).to_le_bytes());
    let length = before.len() + run + after.len();
    file.extend_from_slice(&u32::try_from(length & 0xFFFF_FFFF).unwrap_or_default().to_le_bytes());
    file
}

/// Bits, lowest first, as gzip wants them.
struct Bits {
    bytes: Vec<u8>,
    hold: u32,
    held: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.hold |= value << self.held;
        self.held += count;
        while self.held >= 8 {
            self.bytes.push(self.hold.to_le_bytes()[0]);
            self.hold >>= 8;
            self.held -= 8;
        }
    }

    /// A Huffman code: its highest bit goes first.
    fn code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    fn literal(&mut self, byte: u8) {
        let byte = u32::from(byte);
        if byte < 144 { self.code(0x30 + byte, 8) } else { self.code(0x190 + byte - 144, 9) }
    }
}

/// CRC-32 of ISO 3309.
fn checksum(text: impl Iterator<Item = u8>) -> u32 {
    let step = |rest: u32| if rest & 1 == 1 { 0xEDB8_8320 ^ (rest >> 1) } else { rest >> 1 };
    let table: [u32; 256] = std::array::from_fn(|byte| (0..8).fold(u32::try_from(byte).unwrap_or(0), |c, _| step(c)));
    !text.fold(u32::MAX, |sum, byte| {
        let at = usize::from(sum.to_le_bytes()[0] ^ byte);
        table.get(at).copied().unwrap_or_default() ^ (sum >> 8)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(checksum(b"123456789".iter().copied()), 0xCBF4_3926);
    }

    #[test]
    fn a_gzip_reader_unpacks_just_what_was_packed() {
        for run in [0, 1, 2, 258, 259, 260, 1_000_003] {
            let file = packed_run(b"{\"a\xE4\xFF\":\"", run, b"\"}");
            assert!(file.len() < 400 + run / 150, "{run}: {}", file.len());
            let mut text = b"{\"a\xE4\xFF\":\"".to_vec();
            text.resize(text.len() + run, b'x');
            text.extend_from_slice(b"\"}");
            assert_eq!(unpacked(&file), text, "{run}");
        }
    }

    /// The system's own `gzip -dc`.
    fn unpacked(file: &[u8]) -> Vec<u8> {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = gzip.stdin.take().unwrap();
        let file = file.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&file).unwrap());
        let output = gzip.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }
}
