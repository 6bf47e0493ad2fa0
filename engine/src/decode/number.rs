//! Exact numbers from their JSON text.

/// Powers of ten that a 64-bit float holds exactly.
const POWERS: [f64; 17] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16];

/// The float nearest to a JSON number, ties to even; `None` when it is too large to be finite.
///
/// A decimal whose digits are below 2⁵³ is one division of two exact floats, and so correctly rounded (W. D. Clinger,
/// "How to read floating point numbers accurately", 1990); any other goes to the standard library, which always is.
#[inline]
pub(super) fn float(text: &str) -> Option<f64> {
    if let Some(value) = short_decimal(text.as_bytes()) {
        return Some(value);
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

#[inline]
fn short_decimal(text: &[u8]) -> Option<f64> {
    if text.len() > 17 {
        return None; // at most 17 characters: fewer than 10^17 and no overflow below
    }
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut whole: u64 = 0;
    let mut decimals: Option<usize> = None;
    for (index, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => whole = whole * 10 + u64::from(byte - b'0'),
            b'.' => decimals = Some(digits.len() - 1 - index),
            _ => return None,
        }
    }
    if whole >= 1 << 53 {
        return None;
    }
    let value = whole as f64 / POWERS[decimals.unwrap_or(0)];
    Some(if negative { -value } else { value })
}

/// Why a JSON number is not an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotInteger {
    /// It has decimals other than zero, or an exponent.
    Form,
    /// It is outside −2⁶³ ..= 2⁶³ − 1.
    Range,
}

/// The exact integer that a JSON number is; decimals may be there if they are zero (`12.0`).
pub(super) fn integer(text: &str) -> Result<i64, NotInteger> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.bytes().any(|byte| byte != b'0') || whole.contains(['e', 'E']) {
        return Err(NotInteger::Form);
    }
    whole.parse().map_err(|_| NotInteger::Range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) {
        let expected = text.parse::<f64>().unwrap();
        let expected = expected.is_finite().then_some(expected.to_bits());
        assert_eq!(float(text).map(f64::to_bits), expected, "{text}");
    }

    #[test]
    fn floats_are_correctly_rounded() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "1",
            "-1",
            "12.345",
            "0.1",
            "0.3",
            "1e23",
            "8.5e22",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.0",
            "9007199254740992.5",
            "9007199254740995",
            "900719925474099.25",
            "2.2250738585072011e-308",
            "2.2250738585072012e-308",
            "2.2250738585072014e-308",
            "4.9e-324",
            "5e-324",
            "2.47e-324",
            "2.4703282292062328e-324",
            "1.7976931348623157e308",
            "1.7976931348623158e308",
            "1.7976931348623159e308",
            "1e308",
            "1e309",
            "-1e309",
            "1e400",
            "1e-400",
            "6.631236846766476e-316",
            "3.237883913302901e-319",
            "7.2057594037927933e16",
            "0.500000000000000166533453693773481063544750213623046875",
            "1.00000000000000011102230246251565404236316680908203125",
            "1.00000000000000011102230246251565404236316680908203124",
            "1.00000000000000011102230246251565404236316680908203126",
            "0.0000000000000001",
            "99999999999999999",
            "9999999999999999",
            "999999999999999.9",
            "1E5",
            "1e+5",
            "1e-5",
            "123456789012345678901234567890",
            "0.000000000000000000000000000000000000000000000000000001",
            "8.988465674311579e307",
            "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
            "5e-1",
            "100000000000000016777215",
            "100000000000000016777216",
            "30078505129381147446200",
            "10000000000000000000000",
        ] {
            check(text);
        }
    }

    #[test]
    fn integers_are_exact() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("9007199254740993", Ok(9_007_199_254_740_993)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(NotInteger::Range)),
            ("-9223372036854775809", Err(NotInteger::Range)),
            ("99999999999999999999999999", Err(NotInteger::Range)),
            ("12.0", Ok(12)),
            ("-12.000", Ok(-12)),
            ("12.5", Err(NotInteger::Form)),
            ("12.0e1", Err(NotInteger::Form)),
            ("1e3", Err(NotInteger::Form)),
            ("4503599627370497.0000000001", Err(NotInteger::Form)),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_float_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                check(&format!("{value}"));
                check(&format!("{value:e}"));
            }
        }

        #[test]
        fn any_decimal_is_as_the_standard_library_says(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?") {
            check(&text);
        }
    }
}
