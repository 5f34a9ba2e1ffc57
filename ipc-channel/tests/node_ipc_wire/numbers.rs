//! Numbers: as JavaScript prints them, each checked with Node.

use ipc_channel::events::node_ipc::decode;
use serde_json::json;

use super::support::frame;

/// W-01: what Node 20 prints for these, kept as they came from it.
#[test]
fn floating_point_numbers_are_printed_as_node_prints_them() {
    for &(number, text) in PRINTED_BY_NODE {
        assert_eq!(frame("n", Some(&number)).unwrap(), format!(r#"{{"type":"n","data":{text}}}"#));
        let read: f64 = serde_json::from_str(text).unwrap();
        assert!(read == number, "{text} is read as {read}, written was {number}");
    }
}

#[test]
fn what_is_no_number_is_null() {
    let text = r#"{"type":"n","data":[null,null,null,null]}"#;
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from(f32::NAN)];
    assert_eq!(frame("n", Some(&numbers)).unwrap(), text);
    assert_eq!(frame("n", Some(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN])).unwrap(), text);
}

#[test]
fn small_floating_point_numbers_have_the_digits_that_give_them_back() {
    let texts = [
        (0.1_f32, "0.1"),
        (16_777_216.0, "16777216"),
        (1.0e-7, "1e-7"),
        (f32::MAX, "3.4028235e+38"),
        (-0.0, "0"),
    ];
    for (number, text) in texts {
        assert_eq!(frame("n", Some(&number)).unwrap(), format!(r#"{{"type":"n","data":{text}}}"#));
        assert!(serde_json::from_str::<f32>(text).unwrap() == number);
    }
}

/// W-09: integers are written and read in full, also where JavaScript would round them.
#[test]
fn integers_beyond_what_javascript_holds_are_exact() {
    let written = frame("n", Some(&(u64::MAX, i64::MIN, 1_u64 << 53 | 1, u128::MAX))).unwrap();
    let text = "[18446744073709551615,-9223372036854775808,9007199254740993,340282366920938463463374607431768211455]";
    assert_eq!(written, format!(r#"{{"type":"n","data":{text}}}"#));
    let data = decode(written.as_bytes()).unwrap().data.unwrap();
    let read: (u64, i64, u64, u128) = serde_json::from_slice(data).unwrap();
    assert_eq!(read, (u64::MAX, i64::MIN, 1 << 53 | 1, u128::MAX));
}

#[test]
fn numbers_within_values_and_keys_are_printed_alike() {
    let written = frame("n", Some(&json!({"a": [1e21, {"b": 1.5e-7}], "c": 5.0}))).unwrap();
    assert_eq!(written, r#"{"type":"n","data":{"a":[1e+21,{"b":1.5e-7}],"c":5}}"#);
}

/// A number and what `JSON.stringify` of Node 20 prints for it.
const PRINTED_BY_NODE: &[(f64, &str)] = &[
    (0.0, "0"),
    (-0.0, "0"),
    (1.0, "1"),
    (-1.0, "-1"),
    (0.5, "0.5"),
    (0.1, "0.1"),
    (0.2, "0.2"),
    (0.30000000000000004, "0.30000000000000004"),
    (0.3333333333333333, "0.3333333333333333"),
    (0.6666666666666666, "0.6666666666666666"),
    (100.0, "100"),
    (123456789.0, "123456789"),
    (100000000000000000000.0, "100000000000000000000"),
    (1e21, "1e+21"),
    (123456789012345680000.0, "123456789012345680000"),
    (1.2345678901234568e21, "1.2345678901234568e+21"),
    (999999999999999900000.0, "999999999999999900000"),
    (0.00001, "0.00001"),
    (0.000001, "0.000001"),
    (0.0000015, "0.0000015"),
    (1e-7, "1e-7"),
    (1.5e-7, "1.5e-7"),
    (0.000001, "0.000001"),
    (1.234e-10, "1.234e-10"),
    (5e-324, "5e-324"),
    (2.2250738585072014e-308, "2.2250738585072014e-308"),
    (2.225073858507201e-308, "2.225073858507201e-308"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (-1.7976931348623157e308, "-1.7976931348623157e+308"),
    (4.35, "4.35"),
    (2.675, "2.675"),
    (1.005, "1.005"),
    (0.000001234, "0.000001234"),
    (9007199254740991.0, "9007199254740991"),
    (9007199254740992.0, "9007199254740992"),
    (9007199254740994.0, "9007199254740994"),
    (1e22, "1e+22"),
    (1e23, "1e+23"),
    (8.41e21, "8.41e+21"),
    (9.5367431640625e-7, "9.5367431640625e-7"),
    (1.5e-323, "1.5e-323"),
    (4.4501477170144023e-308, "4.4501477170144023e-308"),
    (1.23e-18, "1.23e-18"),
    (1.7800590868057611e-307, "1.7800590868057611e-307"),
    (2.8480945388892175e-306, "2.8480945388892175e-306"),
    (2.446494580089078e-296, "2.446494580089078e-296"),
    (4.835170327845852e24, "4.835170327845852e+24"),
    (0.000011897314953572316, "0.000011897314953572316"),
    (9.194e25, "9.194e+25"),
    (6.62607015e-34, "6.62607015e-34"),
    (6.02214076e23, "6.02214076e+23"),
    (299792458.5, "299792458.5"),
    (4294967296.25, "4294967296.25"),
    (0.30000000000000004, "0.30000000000000004"),
    (500000000000000000000.0, "500000000000000000000"),
    (150000000000000000000.0, "150000000000000000000"),
    (10000000000000000.0, "10000000000000000"),
    (120000000000000000.0, "120000000000000000"),
    (33333333333333330000.0, "33333333333333330000"),
    (-123.456, "-123.456"),
    (-1e-9, "-1e-9"),
    (8.5, "8.5"),
    (1e100, "1e+100"),
];
