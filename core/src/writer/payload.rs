//! What is appended: operations, and bytes that only the application knows.

use crate::operation::{Code, OperationRef};

/// What is appended: an operation, or bytes that only the application knows.
pub trait Payload {
    /// The code of the entry's type.
    fn code(&self) -> u8;
    /// Bytes of the payload.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes the payload into `to`, which is [`len`](Self::len) bytes long.
    fn write(&self, to: &mut [u8]);
}

impl Payload for OperationRef<'_> {
    fn code(&self) -> u8 {
        Self::code(self).value()
    }

    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, to: &mut [u8]) {
        // As long as `len` said: there is room.
        let _ = self.encode(to);
    }
}

#[cfg(feature = "alloc")]
impl Payload for crate::operation::Operation {
    fn code(&self) -> u8 {
        self.borrowed().code().value()
    }

    fn len(&self) -> usize {
        self.borrowed().encoded_len()
    }

    fn write(&self, to: &mut [u8]) {
        let _ = self.borrowed().encode(to);
    }
}

/// Opaque bytes.
impl Payload for [u8] {
    fn code(&self) -> u8 {
        Code::Opaque.value()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
}

/// Opaque bytes.
impl<const N: usize> Payload for [u8; N] {
    fn code(&self) -> u8 {
        Code::Opaque.value()
    }

    fn len(&self) -> usize {
        N
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
}

/// Opaque bytes: the text's, in UTF-8.
impl Payload for str {
    fn code(&self) -> u8 {
        Code::Opaque.value()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(self.as_bytes());
    }
}

/// Opaque bytes.
#[cfg(feature = "alloc")]
impl Payload for alloc::vec::Vec<u8> {
    fn code(&self) -> u8 {
        Code::Opaque.value()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
}

impl<P: Payload + ?Sized> Payload for &P {
    fn code(&self) -> u8 {
        (**self).code()
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn write(&self, to: &mut [u8]) {
        (**self).write(to);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;

    #[test]
    fn bytes_are_an_opaque_entry_however_they_are_held() {
        fn check<P: Payload + ?Sized>(payload: &P, bytes: &[u8]) {
            let mut written = vec![0xEE; bytes.len()];
            payload.write(&mut written);
            assert_eq!((payload.code(), payload.len(), &written[..]), (10, bytes.len(), bytes));
            assert_eq!(payload.is_empty(), bytes.is_empty());
        }
        for text in ["", "x", "zö"] {
            check(text, text.as_bytes());
            check(&text, text.as_bytes());
            check(text.as_bytes(), text.as_bytes());
            #[cfg(feature = "alloc")]
            check(&text.as_bytes().to_vec(), text.as_bytes());
        }
        check(&[], &[]);
        check(b"array", b"array");
        check(&OperationRef::Opaque(b"zone"), b"zone");
    }
}
