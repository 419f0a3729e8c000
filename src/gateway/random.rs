//! Secrets that this server makes. Their bits come from the operating system, by way of random UUIDs.

use uuid::Uuid;

/// 32 bytes with 244 random bits.
#[must_use]
pub(crate) fn secret_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    let (first, second) = bytes.split_at_mut(16);
    first.copy_from_slice(Uuid::new_v4().as_bytes());
    second.copy_from_slice(Uuid::new_v4().as_bytes());
    bytes
}

/// The same in 64 hexadecimal digits.
#[must_use]
pub(crate) fn secret_text() -> String {
    base16ct::lower::encode_string(&secret_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (secret_text(), secret_text());
        assert_eq!((one.len(), other.len()), (64, 64));
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let (first, second) = one.split_at(32);
        assert!(one != other && first != second);
    }
}
