//! When a certificate expires: the one field that is read from X.509, whose checking is left to clients.

use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime, Time};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity; `None` for bytes that are no certificate.
pub(crate) fn not_after(der: &[u8]) -> Option<SystemTime> {
    // Certificate { TBSCertificate { [0] version, serial, algorithm, issuer, validity { notBefore, notAfter }, ... } }
    let mut fields = Elements(Elements(der).expect(SEQUENCE)?)
        .expect(SEQUENCE)
        .map(Elements)?;
    let mut serial = fields.next()?;
    if serial.tag == VERSION {
        serial = fields.next()?;
    }
    if serial.tag != INTEGER {
        return None;
    }
    fields.expect(SEQUENCE)?;
    fields.expect(SEQUENCE)?;
    let mut validity = Elements(fields.expect(SEQUENCE)?);
    validity.next()?;
    let end = validity.next()?;
    time(end)
}

/// A time of X.509: `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on.
fn time(element: Element<'_>) -> Option<SystemTime> {
    let text = std::str::from_utf8(element.content).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i32 = digits[..2].parse().ok()?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let two = |index: usize| rest[2 * index..2 * index + 2].parse::<u8>().ok();
    let month = Month::try_from(two(0)?).ok()?;
    let date = Date::from_calendar_date(year, month, two(1)?).ok()?;
    let time = Time::from_hms(two(2)?, two(3)?, two(4)?).ok()?;
    let seconds = OffsetDateTime::new_utc(date, time).unix_timestamp();
    // Any time before 1970 counts as expired.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// The elements of DER, one after the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|element| element.tag == tag)
            .map(|element| element.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    fn unix(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn the_end_is_read_before_and_after_2050() {
        assert_eq!(not_after(&made(2031)).map(unix), Some(1_930_003_200));
        assert_eq!(not_after(&made(2049)).map(unix), Some(2_498_083_200));
        assert_eq!(not_after(&made(2055)).map(unix), Some(2_687_385_600));
    }

    #[test]
    fn other_bytes_are_no_certificate() {
        let whole = made(2031);
        for length in 0..whole.len() {
            // Never a panic; the validity stands in the first half.
            let cut = not_after(&whole[..length]);
            assert!(cut.is_none(), "{length}");
        }
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 0xff;
            let _ = not_after(&damaged);
        }
        assert!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).is_none());
        let with_letters = Element {
            tag: UTC_TIME,
            content: b"31022800000xZ",
        };
        assert!(time(with_letters).is_none());
    }
}
