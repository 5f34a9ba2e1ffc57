//! Percent signs: how bytes that are not text become text and come back.

use std::fmt::Write as _;

use super::ParseEndpointError;

/// Writes bytes as text: UTF-8 as it is, everything else and `%` as `%` and two hexadecimal digits.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                let mut utf8 = [0; 4];
                escape(character.encode_utf8(&mut utf8).as_bytes(), &mut text);
            } else {
                text.push(character);
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

/// The bytes that a text stands for.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, ParseEndpointError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return Err(ParseEndpointError::InvalidEscape { text: text.to_owned() });
        };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(ParseEndpointError::InvalidEscape { text: text.to_owned() });
        };
        bytes.push(high << 4 | low);
        rest = tail;
    }
    Ok(bytes)
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        write!(text, "%{byte:02X}").expect("writing to a string cannot fail");
    }
}

fn digit(byte: u8) -> Option<u8> {
    // A hexadecimal digit is below 16, so it fits.
    (byte as char).to_digit(16).map(|digit| digit as u8)
}
