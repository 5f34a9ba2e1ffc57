//! Endpoints survive their text.

use proptest::prelude::*;

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

use super::*;

#[test]
fn canonical_texts_print_as_they_were_written() {
    for text in [
        "unix:/run/a.sock",
        "unix:relative/a.sock",
        "unix:/run/ä b.sock",
        "unix:/run/%FF%25.sock",
        "unix:%40relative",
        "unix:@abstract",
        "unix:@a%00b",
        "tcp://127.0.0.1:0",
        "tcp://[::1]:0",
        "tcp://example.org:9000",
        "tls://example.org:443",
        "udp://127.0.0.1:53",
        "mem:name",
        "my+scheme://any/thing?at=all",
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.to_string(), text);
    }
}

#[test]
fn wrong_texts_say_what_is_wrong() {
    let long = format!("unix:/{}", "x".repeat(MAX_UNIX_PATH));
    for (text, error) in [
        ("nothing", ParseEndpointError::NoScheme { text: "nothing".into() }),
        ("Unix:/a", ParseEndpointError::InvalidScheme { scheme: "Unix".into() }),
        (":/a", ParseEndpointError::InvalidScheme { scheme: String::new() }),
        ("unix:", ParseEndpointError::EmptyAddress { scheme: "unix".into() }),
        ("unix:@", ParseEndpointError::EmptyAddress { scheme: "unix".into() }),
        ("mem:", ParseEndpointError::EmptyAddress { scheme: "mem".into() }),
        ("unix:/100%", ParseEndpointError::InvalidEscape { text: "/100%".into() }),
        ("unix:/%+1", ParseEndpointError::InvalidEscape { text: "/%+1".into() }),
        ("unix:/a%00", ParseEndpointError::NulInPath { path: "/a\0".into() }),
        ("tcp:127.0.0.1:1", ParseEndpointError::NoSlashes { text: "tcp:127.0.0.1:1".into() }),
        ("tcp://host", ParseEndpointError::NoPort { text: "host".into() }),
        ("tcp://:1", ParseEndpointError::InvalidHost { host: String::new() }),
        ("tcp://::1:1", ParseEndpointError::InvalidHost { host: "::1".into() }),
        ("tcp://a b:1", ParseEndpointError::InvalidHost { host: "a b".into() }),
        ("tcp://host:65536", ParseEndpointError::InvalidPort { port: "65536".into() }),
        (&long, ParseEndpointError::PathTooLong { len: MAX_UNIX_PATH + 1, max: MAX_UNIX_PATH }),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap_err(), error, "{text}");
    }
}

/// over-long explicit paths.
#[test]
fn a_path_that_is_too_long_says_its_length_and_the_most() {
    let path = format!("/{}", "x".repeat(200));
    assert!(matches!(Endpoint::unix(path).unwrap_err(), Error::PathTooLong { len: 201, max: MAX_UNIX_PATH }));
    assert!(Endpoint::unix("x".repeat(MAX_UNIX_PATH)).is_ok());
}

#[test]
fn ip_addresses_and_host_names_are_told_apart() {
    let ip: Endpoint = "tcp://[0::1]:80".parse().unwrap();
    assert_eq!(ip.socket_addr(), Some("[::1]:80".parse().unwrap()));
    assert_eq!(ip.host_port(), Some(("::1", 80)));
    let host: Endpoint = "tls://example.org:443".parse().unwrap();
    assert_eq!(host.socket_addr(), None);
    assert_eq!(host.host_port(), Some(("example.org", 443)));
    assert_eq!("mem:a:1".parse::<Endpoint>().unwrap().host_port(), None);
}

proptest! {
    #[test]
    fn every_path_survives_its_text(bytes in prop::collection::vec(1_u8.., 1..MAX_UNIX_PATH)) {
        let path = PathBuf::from(OsString::from_vec(bytes));
        let endpoint = Endpoint::unix(path.clone()).unwrap();
        let again: Endpoint = endpoint.to_string().parse().unwrap();
        prop_assert_eq!(again.unix_path(), Some(path.as_path()));
        prop_assert_eq!(again, endpoint);
    }

    #[test]
    fn every_abstract_name_survives_its_text(name in prop::collection::vec(any::<u8>(), 1..MAX_UNIX_PATH)) {
        let endpoint = Endpoint::unix_abstract(&name).unwrap();
        let again: Endpoint = endpoint.to_string().parse().unwrap();
        prop_assert_eq!(again.unix_abstract_name(), Some(name.as_slice()));
        prop_assert_eq!(again, endpoint);
    }

    #[test]
    fn every_custom_address_survives_its_text(scheme in "[a-z][a-z0-9+.-]{0,8}", address in "\\PC{1,40}") {
        prop_assume!(!["unix", "tcp", "tls", "udp"].contains(&scheme.as_str()));
        let endpoint = Endpoint::new(scheme, address.clone()).unwrap();
        let again: Endpoint = endpoint.to_string().parse().unwrap();
        prop_assert_eq!(again.address(), address);
        prop_assert_eq!(again, endpoint);
    }

    #[test]
    fn what_parses_prints_to_an_equal_endpoint(text in "(unix|tcp|tls|mem|x):(//)?\\PC{0,30}") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }
}
