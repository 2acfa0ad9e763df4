use super::*;
use crate::rng::Rng;
use std::format;
use std::string::ToString as _;
use std::vec;

mod enrolments;

fn code(candidates: &[&str], rendezvous: Option<Rendezvous>) -> InviteCode {
    InviteCode {
        inviter: IdentityKey([0xa5; 32]),
        addr: Addr::new(0, 0x1234_5678),
        invite: InviteId(0x0bad_cafe),
        secret: InviteSecret::new(*b"ten bytes!"),
        expires: 1_800_000_000,
        candidates: candidates.iter().map(|addr| addr.parse().expect("an address")).collect(),
        rendezvous,
        group: None,
    }
}

fn named(name: &str, port: u16) -> Option<Rendezvous> {
    Some(Rendezvous::At(StaticKey([0x3c; 32]), vec![Host::Name(name.into(), port)]))
}

fn same() -> Option<Rendezvous> {
    Some(Rendezvous::same(&StaticKey([0x3c; 32])))
}

#[test]
fn codes_of_every_kind_are_read_back() {
    let address = Host::At("[2001:db8::1]:9000".parse().expect("an address"));
    let several = vec![Host::Name("a.example".into(), 9000), Host::Name("b.example".into(), 443), address];
    for code in [
        code(&["10.0.0.1:4000"], None),
        code(&["10.0.0.1:4000", "[fd00::1]:4000", "192.0.2.7:1", "[2001:db8::7]:65535"], None),
        code(&["10.0.0.1:4000"], same()),
        code(&[], same()),
        code(&[], named("rendezvous.example", 9000)),
        code(&[], named("under_score-1.example", 1)),
        code(&["192.0.2.7:9"], Some(Rendezvous::At(StaticKey([9; 32]), several))),
    ] {
        let text = code.emit().expect("a whole code");
        assert_eq!(text.parse(), Ok(code.clone()), "{text}");
        assert_eq!(text.to_uppercase().parse(), Ok(code));
    }
}

#[test]
fn a_code_has_its_frozen_text() {
    let texts = [code(&["10.0.0.1:4000"], None), code(&[], same()), code(&[], named("rendezvous.example", 9000))]
        .map(|code| code.emit().expect("a whole code") + "\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/invite/golden.txt");
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, texts.concat()).expect("the file is written");
    }
    assert_eq!(texts.concat(), std::fs::read_to_string(path).expect("the frozen texts"), "{path} differs");
}

#[test]
fn a_code_has_at_most_200_characters_and_130_for_one_rendezvous() {
    for name in ["rendezvous.example", "rendezvous.pilot.example"] {
        let text = code(&[], named(name, 9000)).emit().expect("a whole code");
        assert!(text.len() <= 200, "{} characters for {name}", text.len());
    }
    let address = Host::At("[2001:db8::1]:9000".parse().expect("an address"));
    let text = code(&[], Some(Rendezvous::At(StaticKey([9; 32]), vec![address]))).emit().expect("a whole code");
    assert!(text.len() <= 200, "{} characters", text.len());
    for short in [code(&[], same()), code(&["203.0.113.77:45678"], None)] {
        let text = short.emit().expect("a whole code");
        assert!(text.len() <= 130, "{} characters: {text}", text.len());
    }
}

#[test]
fn a_code_leads_somewhere_and_has_bounds() {
    let hosts = |n| Some(Rendezvous::At(StaticKey([1; 32]), vec![Host::At(([10, 0, 0, 1], 9).into()); n]));
    let bad_names = ["", "ä.example", "a b", &"a".repeat(NAME_LEN_MAX + 1)].map(|name| code(&[], named(name, 9000)));
    let long = vec![Host::Name("a".repeat(NAME_LEN_MAX), 9000); HOSTS_MAX];
    for bad in bad_names.into_iter().chain([
        code(&[], None),
        code(&["10.0.0.1:4000"; CANDIDATES_MAX + 1], None),
        code(&[], hosts(0)),
        code(&[], hosts(HOSTS_MAX + 1)),
        code(&[], Some(Rendezvous::At(StaticKey([1; 32]), long))),
    ]) {
        assert_eq!(bad.emit(), Err(CodeError::Content), "{bad:?}");
    }
    let most = code(&["10.0.0.1:4000"; CANDIDATES_MAX], hosts(HOSTS_MAX));
    assert_eq!(most.emit().expect("a whole code").parse(), Ok(most));
}

#[test]
fn a_code_of_another_version_says_so_and_one_with_another_content_is_refused() {
    let right = text::parse(&code(&["10.0.0.1:4000"], None).emit().expect("a code")).expect("right letters");
    let mut other = right.clone();
    other[0] = 3;
    let error = text::emit(&other).parse::<InviteCode>();
    assert_eq!(error, Err(CodeError::Version(3)));
    assert_eq!(CodeError::Version(3).to_string(), "the code has version 3, and this program knows 1 and 2");
    for len in 1..right.len() {
        assert_eq!(text::emit(&right[..len]).parse::<InviteCode>(), Err(CodeError::Content), "{len} bytes");
    }
    assert_eq!(text::emit(&[]).parse::<InviteCode>(), Err(CodeError::Content));
}

#[test]
fn whatever_a_code_contains_it_is_refused_or_read_back() {
    let mut rng = Rng::new([8; 32]);
    let whole = code(&["10.0.0.1:4000"], named("rendezvous.example", 9001));
    let right = text::parse(&whole.emit().expect("a code")).expect("right letters");
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = right.clone();
        for _ in 0..1 + rng.below(3) {
            let at = 1 + rng.below(bytes.len() as u64 - 1) as usize;
            bytes[at] = rng.u32() as u8;
        }
        if let Ok(code) = text::emit(&bytes).parse::<InviteCode>() {
            assert_eq!(code.emit().map(|text| text.parse()), Ok(Ok(code)));
            taken += 1;
        }
    }
    assert!(taken > 1000, "{taken} of 20,000 contents were codes");
}

#[test]
fn an_invite_is_named_by_eight_digits_and_a_secret_is_not_shown() {
    assert_eq!("0badcafe".parse(), Ok(InviteId(0x0bad_cafe)));
    assert_eq!(InviteId(7).to_string(), "00000007");
    for bad in ["", "7", "+0000007", "0badcafe0", "0badcafg"] {
        assert_eq!(bad.parse::<InviteId>(), Err(Malformed), "{bad}");
    }
    assert!(!format!("{:?}", code(&[], same())).contains("ten"));
    assert!(same().is_some_and(|r| r.is(&StaticKey([0x3c; 32])) && !r.is(&StaticKey([0x3d; 32]))));
}
