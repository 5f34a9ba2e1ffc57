//! The dialler's half of the handshake: hello, then an answer, or a wait and a later answer.

use std::{io, time::Duration};

use ipc_transport::{Connection, ReadHalf, WriteHalf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::protocol::{Answer, Hello, PREAMBLE_LEN, Preamble, ProtocolError, Refusal, Welcome};

/// How a greeting went.
pub(crate) enum Greeted {
    /// The connection broke, or the peer took too long, or is no link.
    Failed(io::Error),
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
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        read_answer(&mut reader).await
    });
    let mut answer = first.await.unwrap_or_else(|late| Err(late.into()));
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

async fn read_answer(reader: &mut ReadHalf) -> io::Result<Answer> {
    let mut preamble = [0; PREAMBLE_LEN];
    reader.read_exact(&mut preamble).await?;
    let preamble = Preamble::decode(preamble, true).map_err(violation)?;
    let mut fields = vec![0; preamble.len.into()];
    reader.read_exact(&mut fields).await?;
    Answer::decode(&fields).map_err(violation)
}

/// A peer that does not keep to the protocol, as a failure of its connection.
pub(crate) fn violation(error: ProtocolError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
