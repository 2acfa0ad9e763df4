//! Addresses that gateways map.

use super::*;

#[test]
fn addresses_that_gateways_map_are_told_and_have_a_maximum() {
    let mut pair = Pair::new();
    pair.send(0, b"hello");
    pair.run_for(DELAY * 10);
    let external: SocketAddr = "203.0.113.9:6000".parse().expect("one");
    let origin = |pair: &Pair| {
        let info = pair.ends[0].peer_info(pair.now, pair.peer(0)).expect("a peer");
        info.paths.iter().find(|path| path.addr == PathAddr::Direct(external)).map(Path::origin)
    };
    assert_eq!(origin(&pair), None);
    pair.ends[1].set_mapped(pair.now, vec![external]);
    pair.run_for(DELAY * 10);
    assert_eq!(origin(&pair), Some(Origin::Mapped));
    assert_eq!(pair.ends[1].candidates(), [external]);
    let many = (0..9).map(|port| SocketAddr::new(external.ip(), 6000 + port)).collect();
    pair.ends[1].set_mapped(pair.now, many);
    assert_eq!(pair.ends[1].candidates().len(), 2);
    pair.ends[1].set_mapped(pair.now, Vec::new());
    assert!(pair.ends[1].candidates().is_empty());
}
