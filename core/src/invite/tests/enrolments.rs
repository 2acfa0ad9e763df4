//! Codes of enrolments.

use super::*;
use crate::group::{Enrolment, EnrolmentSeed, Group, KeyRow};

const NOW: u32 = 1_800_000_000;

/// A code with so many contacts, of which the first one is the founder.
fn code(contacts: u8, candidates: &[&str], rendezvous: Option<Rendezvous>) -> EnrolmentCode {
    let founder = IdentityKey([0xa5; 32]);
    let seed = EnrolmentSeed::new(*b"sixteen bytes!!!");
    let (key, signature) = (seed.identity().public(), [0x5a; 64]);
    EnrolmentCode {
        group: Group { name: "fleet".into(), key: IdentityKey([0x11; 32]), founder },
        key_row: None,
        seed,
        enrolment: Enrolment { key, uses: 50, issued: NOW, not_after: NOW + 7 * 24 * 3600, epoch: 1, signature },
        contacts: (0..contacts).map(|n| if n == 0 { founder } else { IdentityKey([n; 32]) }).collect(),
        candidates: candidates.iter().map(|addr| addr.parse().expect("an address")).collect(),
        rendezvous,
    }
}

fn with_key(code: EnrolmentCode) -> EnrolmentCode {
    let key_row = Some(KeyRow { number: 1, key: IdentityKey([0x22; 32]), signature: [0x33; 64] });
    EnrolmentCode { key_row, ..code }
}

fn read(text: &str) -> Result<EnrolmentCode, CodeError> {
    match text.parse()? {
        JoinCode::Enrolment(code) => Ok(*code),
        JoinCode::Invite(code) => panic!("an invite: {code:?}"),
    }
}

#[test]
fn codes_of_enrolments_are_read_back_and_are_no_invites() {
    let most = code(CONTACTS_MAX as u8, &["192.0.2.7:1", "[2001:db8::7]:65535"], named("rendezvous.example", 9000));
    for code in [code(1, &["10.0.0.1:4000"], None), code(2, &[], same()), most.clone(), with_key(most)] {
        let text = code.emit().expect("a whole code");
        assert_eq!(read(&text), Ok(code.clone()), "{text}");
        assert_eq!(read(&text.to_uppercase().replace('-', " ")), Ok(code));
        assert_eq!(text.parse::<InviteCode>(), Err(CodeError::Version(2)));
        // One wrong letter is named.
        let wrong = text.replacen("-q", "-p", 1);
        assert!(wrong == text || matches!(read(&wrong), Err(CodeError::Typing(TypingError::Wrong(_)))));
    }
}

#[test]
fn a_code_of_an_enrolment_has_its_frozen_text_and_length() {
    let over = || named("rendezvous.example", 9000);
    let codes = [code(1, &[], over()), code(4, &[], over()), with_key(code(4, &[], over()))];
    let texts = codes.map(|code| code.emit().expect("a whole code") + "\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/invite/enrolment.txt");
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, texts.concat()).expect("the file is written");
    }
    assert_eq!(texts.concat(), std::fs::read_to_string(path).expect("the frozen texts"), "{path} differs");
    // docs/trust.md, "Groups", names these lengths.
    let lens = texts.map(|text| text.trim().len());
    assert!(lens[0] <= 375 && lens[1] <= 545 && lens[2] <= 715, "{lens:?}");
    let qr_capacity = 4296; // alphanumeric characters of the largest symbol
    assert!(lens[2] < qr_capacity);
}

#[test]
fn a_code_of_an_enrolment_names_a_member_and_leads_somewhere() {
    let whole = code(1, &["10.0.0.1:4000"], None);
    let broken = |change: fn(&mut Enrolment)| {
        let mut code = whole.clone();
        change(&mut code.enrolment);
        code
    };
    for bad in [
        code(0, &["10.0.0.1:4000"], None),
        code(CONTACTS_MAX as u8 + 1, &["10.0.0.1:4000"], None),
        code(1, &[], None),
        broken(|row| row.uses = 0),
        broken(|row| row.not_after = row.issued),
        broken(|row| row.key = IdentityKey([9; 32])),
        EnrolmentCode { group: Group { name: "".into(), ..whole.group.clone() }, ..whole.clone() },
    ] {
        assert_eq!(bad.emit(), Err(CodeError::Content), "{bad:?}");
    }
    assert!(!format!("{whole:?}").contains("sixteen"));
}

#[test]
fn whatever_a_code_of_an_enrolment_contains_it_is_refused_or_read_back() {
    let mut rng = Rng::new([9; 32]);
    let whole = with_key(code(3, &["10.0.0.1:4000"], named("rendezvous.example", 9001)));
    let right = text::parse(&whole.emit().expect("a code")).expect("right letters");
    for len in 1..right.len() {
        let _ = text::emit(&right[..len]).parse::<JoinCode>().is_ok();
    }
    let mut taken = 0;
    for _ in 0..5_000 {
        let mut bytes = right.clone();
        for _ in 0..1 + rng.below(3) {
            let at = 1 + rng.below(bytes.len() as u64 - 1) as usize;
            bytes[at] = rng.u32() as u8;
        }
        if let Ok(JoinCode::Enrolment(code)) = text::emit(&bytes).parse::<JoinCode>() {
            assert_eq!(code.emit().map(|text| text.parse()), Ok(Ok(JoinCode::Enrolment(code))));
            taken += 1;
        }
    }
    assert!(taken > 1000, "{taken} of 5,000 contents were codes");
}
