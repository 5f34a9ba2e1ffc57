//! The link protocol by hand, for senders that no port would be.

use ipc_pipeline::protocol::{Answer, Hello, PREAMBLE_LEN, Preamble, SessionId};
use ipc_transport::{Bincode, ConnectOptions, ReadHalf, WriteHalf};
use tokio::io::AsyncReadExt;

use crate::support::World;

/// A connection to a node, with nothing said on it.
pub(crate) async fn dial(world: &World, process: &str) -> (ReadHalf, WriteHalf) {
    let at = world.endpoint(process).await;
    let connection = world.transports().connect(&at, &ConnectOptions::default()).await.unwrap();
    let (reader, writer, _) = connection.into_parts();
    (reader, writer)
}

/// The hello of a new session.
pub(crate) fn hello(process: &str, port: &str) -> Hello {
    let mut hello = Hello::new(SessionId::from_bits(fastrand::u128(..)), Bincode::ID);
    hello.from_process = "raw".to_owned();
    hello.from_port = "OUT".to_owned();
    hello.to_process = process.to_owned();
    hello.to_port = port.to_owned();
    hello.max_message = 1024;
    hello.capacity = 20;
    hello
}

/// What the node answers.
pub(crate) async fn read_answer(reader: &mut ReadHalf) -> Answer {
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await.unwrap();
    let mut fields = vec![0; Preamble::decode(preamble, true).unwrap().len.into()];
    reader.read_exact(&mut fields).await.unwrap();
    Answer::decode(&fields).unwrap()
}
