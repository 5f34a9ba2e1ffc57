//! What peers that mean no good cost a node: no memory beyond its budget, and nobody else's time.

#![allow(clippy::unwrap_used, reason = "a test may unwrap, its helpers too")]

use std::time::Duration;

use ipc_pipeline::protocol::{Answer, Control, Hello, PREAMBLE_LEN, Preamble, SessionId};
use ipc_ports::{Node, NodeConfig};
use ipc_testkit::{
    certificates::Authority,
    process::{self, Role, TempDir, resident_bytes},
};
use ipc_transport::{
    Bincode, ConnectOptions, Endpoint, Limits, Naming as _, ReadHalf, RuntimeDirectory, RuntimeNaming,
    StaticNaming, Transports, WriteHalf,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// How long anything may take before a test counts as hung.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Sessions that announce a value each and never send it.
const ANNOUNCERS: usize = 400;

/// What each of them announces: nearly all that a session without a history is allowed.
const ANNOUNCED: u32 = 60_000;

async fn dial(at: &Endpoint) -> (ReadHalf, WriteHalf) {
    let connecting = Transports::default().connect(at, &ConnectOptions::default()).await;
    let (reader, writer, _) = connecting.unwrap().into_parts();
    (reader, writer)
}

fn hello(session: usize) -> Vec<u8> {
    let mut hello = Hello::new(SessionId::from_bits(session as u128 + 1), Bincode::ID);
    hello.from_process = "hostile".to_owned();
    hello.from_port = format!("OUT{session}");
    hello.to_process = "victim".to_owned();
    hello.to_port = "IN".to_owned();
    hello.max_message = 1 << 20;
    hello.capacity = 1 << 20;
    hello.encode().unwrap()
}

/// A session that was let in and may send values.
async fn attach(at: &Endpoint, session: usize) -> (ReadHalf, WriteHalf) {
    let (mut reader, mut writer) = dial(at).await;
    writer.write_all(&hello(session)).await.unwrap();
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await.unwrap();
    let mut fields = vec![0; Preamble::decode(preamble, true).unwrap().len.into()];
    reader.read_exact(&mut fields).await.unwrap();
    assert!(matches!(Answer::decode(&fields), Ok(Answer::Welcome(_))));
    let mut resume = Vec::new();
    Control::Resume { first: 1, maybe_seen_until: 0 }.encode(&mut resume);
    writer.write_all(&resume).await.unwrap();
    (reader, writer)
}

/// Waits until the other side has hung up, whatever it said before.
async fn hung_up_on(reader: &mut ReadHalf) {
    let _ = reader.read_to_end(&mut Vec::new()).await;
}

/// The process that is attacked: takes values and tells them.
#[test]
fn role_victim() {
    let Some(mut parent) = process::enter("role_victim") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory: std::path::PathBuf = parent.argument();
        let naming = RuntimeNaming::new(RuntimeDirectory::at(directory).unwrap());
        let node = Node::start(NodeConfig::new("victim").naming(naming)).await.unwrap();
        let mut inp = node.incoming::<u64>("IN").unwrap();
        parent.send(&"ready").unwrap();
        loop {
            tokio::select! {
                value = inp.recv() => parent.send(&*value.unwrap()).unwrap(),
                () = parent.hung_up() => break,
            }
        }
    });
}

/// Lengths in preambles and headers, a value announced by each of many sessions, and a million frames of nothing: none
/// of it makes the node hold what it claims, and in the end it serves as before. Threat 1.
#[tokio::test]
async fn what_is_announced_takes_no_memory() {
    let directory = TempDir::new().unwrap();
    let mut victim = Role::new("role_victim").argument(&directory.path()).spawn().unwrap();
    assert_eq!(victim.recv::<String>().await.unwrap(), "ready");
    let naming = RuntimeNaming::new(RuntimeDirectory::at(directory.path()).unwrap());
    let at = naming.resolve("victim").await.unwrap();
    let node = Node::start(NodeConfig::new("honest").naming(naming)).await.unwrap();
    let out = node.outgoing::<u64>("OUT").unwrap();
    out.connect("victim", "IN").unwrap();
    out.send(1).await.unwrap();
    assert_eq!(victim.recv::<u64>().await.unwrap(), 1);
    let before = resident_bytes(victim.id()).unwrap();

    let attack = async {
        // A hello that says it is longer than any may be, and one that is nearly as long and never comes.
        let preamble = |len: u16| [&hello(0)[..6], &len.to_le_bytes()].concat();
        for _ in 0..100 {
            let (mut reader, mut writer) = dial(&at).await;
            writer.write_all(&preamble(u16::MAX)).await.unwrap();
            hung_up_on(&mut reader).await;
        }
        let mut open = Vec::new();
        for _ in 0..32 {
            let (reader, mut writer) = dial(&at).await;
            writer.write_all(&preamble(4_096)).await.unwrap();
            open.push((reader, writer));
        }
        for session in 0..ANNOUNCERS {
            let (reader, mut writer) = attach(&at, session).await;
            writer.write_all(&ANNOUNCED.to_le_bytes()).await.unwrap();
            writer.write_all(b"x").await.unwrap();
            open.push((reader, writer));
        }
        // More than is allowed: as a value, as the largest that a header can say, and as a frame to be skipped.
        let headers = [1_u32 << 19, (1 << 20) - 1, (0x80 << 24) + (1 << 20) - 1];
        for (session, header) in (ANNOUNCERS..).zip(headers) {
            let (mut reader, mut writer) = attach(&at, session).await;
            writer.write_all(&header.to_le_bytes()).await.unwrap();
            hung_up_on(&mut reader).await;
        }
        let (_reader, mut writer) = attach(&at, ANNOUNCERS + headers.len()).await;
        // And a million frames of nothing.
        let nothing = (0x80_u32 << 24).to_le_bytes().repeat(10_000);
        for _ in 0..100 {
            writer.write_all(&nothing).await.unwrap();
        }
        open
    };
    let open = timeout(WATCHDOG, attack).await.expect("the watchdog barked");
    out.send(2).await.unwrap();
    assert_eq!(victim.recv::<u64>().await.unwrap(), 2);
    let grown = resident_bytes(victim.id()).unwrap().saturating_sub(before);
    let claimed = ANNOUNCERS as u64 * u64::from(ANNOUNCED);
    assert!(grown < claimed / 3 * 2, "{grown} bytes more for {claimed} that were announced");
    drop(open);
    out.close(WATCHDOG).await.unwrap();
    victim.hang_up();
    victim.succeeds().await;
}

/// many more strangers who say nothing, or half a hello, than there may be unfinished handshakes: whoever has
/// something to say is served, and the strangers are hung up on. With TLS they do not come as far as a hello. Threat 5.
#[tokio::test]
async fn a_crowd_of_silent_strangers_holds_nobody_up() {
    let limits = Limits::default().with_handshake_timeout(Duration::from_secs(3));
    assert_eq!(limits.max_handshakes, 64);
    let tls = Authority::new("the world").mutual(["127.0.0.1"]);
    for at in ["tcp", "tls", "unix"] {
        let directory = TempDir::new().unwrap();
        let place = |name: &str| match at {
            "unix" => Endpoint::unix(directory.path().join(name)).unwrap(),
            scheme => format!("{scheme}://127.0.0.1:0").parse().unwrap(),
        };
        let naming = StaticNaming::new().with("victim", place("victim")).with("honest", place("honest"));
        let config = |name: &str| NodeConfig::new(name).naming(naming.clone()).transport(tls.clone());
        let victim = Node::start(config("victim").limits(limits.clone())).await.unwrap();
        let honest = Node::start(config("honest")).await.unwrap();
        let mut inp = victim.incoming::<u64>("IN").unwrap();
        // Strangers have no papers: they dial what is beneath TLS.
        let to = naming.resolve("victim").await.unwrap().to_string().replace("tls:", "tcp:");
        let to = to.parse().unwrap();
        let scenario = async {
            let mut strangers = Vec::new();
            for number in 0..200 {
                let (reader, mut writer) = dial(&to).await;
                writer.write_all(&hello(number)[..number % 20]).await.unwrap();
                strangers.push((reader, writer));
            }
            let out = honest.outgoing::<u64>("OUT").unwrap();
            out.connect("victim", "IN").unwrap();
            out.send(7).await.unwrap();
            assert_eq!(*inp.recv().await.unwrap(), 7);
            for (mut reader, _writer) in strangers {
                hung_up_on(&mut reader).await;
            }
            while victim.counters().failed < 200 {
                tokio::task::yield_now().await;
            }
            out.close(WATCHDOG).await.unwrap();
        };
        timeout(WATCHDOG, scenario).await.expect("the watchdog barked");
    }
}
