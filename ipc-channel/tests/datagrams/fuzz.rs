//! Arbitrary datagrams over loopback: none of them stops an end.

use ipc_channel::events::Wire;

use crate::support::{Bare, ask, native, udp};

/// Bytes of every kind: noise, and pieces of what is right with noise in it.
fn datagram(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = match random.u8(..4) {
        0 => native("message", "text", random.u64(..)),
        1 => b"{\"type\":\"message\",\"data\":[1,{\"id\":\"x\"}]}\x0c{\"type\":\"b\"}\x0c".to_vec(),
        2 => vec![[0, b'[', b'{', 0x0C, 0xFF][random.usize(..5)]; random.usize(..3_000)],
        _ => (0..random.usize(..300)).map(|_| random.u8(..)).collect(),
    };
    for _ in 0..random.usize(..6) {
        if !bytes.is_empty() {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = random.u8(..),
                _ => bytes.insert(at, random.u8(..)),
            }
        }
    }
    bytes
}

/// whatever comes, an end hears events, counts the rest, and goes on.
#[tokio::test]
async fn thousands_of_arbitrary_datagrams_stop_nobody() {
    for wire in [Wire::Native, Wire::node_ipc(), Wire::Raw] {
        let at = "udp://127.0.0.1:0";
        let server = udp(at, wire.clone()).await;
        let (mut peer, mut random) = (Bare::udp(at).await, fastrand::Rng::with_seed(5));
        for _ in 0..3_000 {
            let bytes = datagram(&mut random);
            peer.say(server.endpoint(), bytes).await;
        }
        if let Wire::Raw = wire {
            continue;
        }
        let mut heard = server.events::<u32>("well", 8).unwrap();
        let other = udp(at, wire).await;
        let (seven, _) = ask(|| other.emit_at(server.endpoint(), "well", &7_u32).unwrap(), &mut heard).await;
        assert_eq!(*seven, 7);
        let counters = server.counters();
        assert!(counters.received > 0 && counters.malformed > 0, "{counters:?}");
        assert_eq!(counters.sent, 0, "nobody asked properly, nobody is answered");
    }
}
