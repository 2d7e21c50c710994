use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> String {
    DistinguishedName::parse(text).unwrap().to_string()
}

#[test]
fn spellings_of_one_name_are_one_text() {
    for spelling in [
        "CN=device-1,O=ACME\\, Inc.,C=DE",
        "cn=device-1, o=\"ACME, Inc.\" ; c = DE",
        "CN=device-1,O=ACME\\2C Inc.,C=DE",
        "2.5.4.3=device-1,OID.2.5.4.10=ACME\\, Inc.,C=DE",
        "CN=#0c086465766963652d31,O=ACME\\, Inc.,C=#13024445",
    ] {
        assert_eq!(canonical(spelling), "CN=device-1,O=ACME\\, Inc.,C=DE", "{spelling}");
    }
}

#[test]
fn parts_with_several_values_have_no_order() {
    assert_eq!(canonical("OU=b+CN=a,C=DE"), canonical("CN=a + OU=b, C=DE"));
    assert_ne!(canonical("CN=a,OU=b"), canonical("OU=b,CN=a"), "the order of parts counts");
}

#[test]
fn letters_and_blanks_inside_a_value_count() {
    assert_ne!(canonical("CN=Device"), canonical("CN=device"));
    assert_ne!(canonical("CN=a b"), canonical("CN=a  b"));
    assert_eq!(canonical("CN=\\ a\\ "), "CN=\\ a\\ ");
    assert_eq!(canonical("CN= a "), "CN=a");
    assert_eq!(canonical("CN=\\#a"), "CN=\\#a");
    assert_eq!(canonical("CN=größe,O="), "CN=größe,O=");
}

#[test]
fn the_canonical_text_reads_as_the_same_name() {
    for text in [
        "CN=a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h\\=i,O=x",
        "1.2.840.113549.1.9.1=me@example.org,CN=\\0a",
        "CN=#0401ff,UID=7",
        "DC=example+DC=org,STREET=1\\ ",
    ] {
        let name = DistinguishedName::parse(text).unwrap();
        assert_eq!(DistinguishedName::parse(&name.to_string()).unwrap(), name, "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    for text in [
        "",
        "device-1",
        "CN",
        "=a",
        "CN=a,",
        "CN=a,,O=b",
        "XX=a",
        "CN=\"a",
        "CN=\"a\"b",
        "CN=a\\",
        "CN=\\zz",
        "CN=#0",
        "CN=#xy",
        "CN=#0c05",
        "1..2=a",
        "CN=\\ff",
        "CN=a\"b",
    ] {
        assert_eq!(DistinguishedName::parse(text), Err(NameError), "{text}");
    }
    let long = format!("CN={}", "x".repeat(NAME_BYTES_MAX));
    assert_eq!(DistinguishedName::parse(&long), Err(NameError));
}

#[test]
fn der_and_text_of_one_name_are_equal() {
    // C=DE (PrintableString), O=ACME (UTF8String), CN=größe (BMPString); most general first.
    let der = [
        &[0x30, 0x2f][..],
        &[0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02, b'D', b'E'],
        &[0x31, 0x0d, 0x30, 0x0b, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x04],
        b"ACME",
        &[0x31, 0x11, 0x30, 0x0f, 0x06, 0x03, 0x55, 0x04, 0x03, 0x1e, 0x08],
        &[0, b'g', 0, b'r', 0, 0xf6, 0, 0xdf],
    ]
    .concat();
    let name = DistinguishedName::from_der(&der).unwrap();
    assert_eq!(name.to_string(), "CN=größ,O=ACME,C=DE");
    assert_eq!(name, DistinguishedName::parse("cn=größ, o=ACME, c=DE").unwrap());
    assert_eq!((name.common_name(), name.organization()), (Some("größ"), Some("ACME")));
    assert_eq!(name.organizational_unit(), None);
    assert!(DistinguishedName::from_der(&der[..der.len() - 1]).is_err());
    assert!(DistinguishedName::from_der(&[&der[..], &[0]].concat()).is_err());
    assert!(DistinguishedName::from_der(&[0x30, 0x00]).is_err(), "an empty name names nobody");
}

#[test]
fn a_value_that_only_looks_like_a_string_is_none() {
    // CN with the context tag 12 instead of UTF8String, which is the universal tag 12.
    let name = |tag: u8| {
        let der = [0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 3, 0x55, 4, 3, tag, 1, b'a'];
        DistinguishedName::from_der(&der).unwrap().to_string()
    };
    assert_eq!((name(0x0c).as_str(), name(0x8c).as_str()), ("CN=a", "CN=#8c0161"));
}

proptest! {
    #[test]
    fn whatever_reads_as_a_name_reads_the_same_from_its_one_spelling(
        text in "(CN|o|1\\.2|OU)=[a \\\\,;+\"#=\u{e9}\u{0}0-9f]{0,12}(,C=[A-Z\\\\ ]{0,4})?"
    ) {
        if let Ok(name) = DistinguishedName::parse(&text) {
            prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
        }
    }

    #[test]
    fn no_text_and_no_bytes_are_too_odd(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = DistinguishedName::parse(&text);
        let _ = DistinguishedName::from_der(&bytes);
        let _ = crate::certificates::CertificateFacts::from_der(&bytes);
        let _ = crate::certificates::PublicKey::from_der(&bytes);
    }
}
