//! The dialler's half of the handshake: hello, then an answer, or a wait and a later answer.

use std::time::Duration;

use ipc_transport::{Connection, ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::protocol::{Answer, Hello, PREAMBLE_LEN, Preamble, ProtocolError, Refusal, Welcome};

/// How a greeting went.
pub(crate) enum Greeted {
    /// The connection broke, or the peer is no link.
    Failed(Option<ProtocolError>),
    Refused(Refusal),
    Welcome(Box<(Welcome, ReadHalf, WriteHalf)>),
    /// Best effort: where the datagrams go, for as long as the connection stands.
    Datagrams(Box<(String, ReadHalf, WriteHalf)>),
}

/// Greets; the time limit ends with the first answer, as a parked link may wait for ever. `parked` is told of that.
pub(crate) async fn greet(
    connection: Connection,
    hello: &Hello,
    limit: Duration,
    parked: impl Fn(),
) -> Greeted {
    let (mut reader, mut writer, _) = connection.into_parts();
    let bytes = match hello.encode() {
        Ok(bytes) => bytes,
        Err(error) => return Greeted::Refused(Refusal::Unsupported { what: error.to_string() }),
    };
    let first = timeout(limit, async {
        writer.write_all(&bytes).await.ok()?;
        writer.flush().await.ok()?;
        Some(read_answer(&mut reader).await)
    });
    let Ok(Some(mut answer)) = first.await else { return Greeted::Failed(None) };
    loop {
        match answer {
            Ok(Answer::Welcome(welcome)) => return Greeted::Welcome(Box::new((welcome, reader, writer))),
            Ok(Answer::Datagrams { at }) => return Greeted::Datagrams(Box::new((at, reader, writer))),
            Ok(Answer::Refused(refusal)) => return Greeted::Refused(refusal),
            Ok(Answer::Wait) => {
                parked();
                answer = read_answer(&mut reader).await;
            }
            Err(error) => return Greeted::Failed(error),
        }
    }
}

async fn read_answer(reader: &mut ReadHalf) -> Result<Answer, Option<ProtocolError>> {
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await.map_err(|_| None)?;
    let preamble = Preamble::decode(preamble, true).map_err(Some)?;
    let mut fields = vec![0; preamble.len.into()];
    reader.read_exact(&mut fields).await.map_err(|_| None)?;
    Answer::decode(&fields).map_err(Some)
}
