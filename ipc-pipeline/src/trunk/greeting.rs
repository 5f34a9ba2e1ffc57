//! How a trunk begins: the hello of links, which says that lanes follow, and its answer.

use std::{io, sync::Arc, time::Duration};

use ipc_transport::Connection;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{Trunk, TrunkDriver};
use crate::{
    link::{
        Greeting,
        dial::{Greeted, greet},
    },
    protocol::{Answer, DeliveryMode, Hello, Refusal, Welcome},
};

/// Why a peer that was dialled gave no trunk.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// It hung up, said nothing in time, or does not speak the protocol; the cause tells which.
    #[error("the peer gave no answer that makes sense")]
    Failed(#[source] Arc<io::Error>),
    /// It said no.
    #[error("the peer refused the connection")]
    Refused(#[source] Refusal),
}

/// Greets the peer of a fresh connection as this hello says, which becomes one of a trunk.
///
/// The first answer has to come within `limit`. The peer's word on itself comes back: its incarnation, and counts
/// that mean what both sides agree on.
///
/// # Errors
///
/// [`DialError`].
///
/// # Cancel safety
///
/// Dropping the future hangs up.
pub async fn dial(
    connection: Connection,
    mut hello: Hello,
    lanes: u8,
    limit: Duration,
) -> Result<(Trunk, TrunkDriver, Welcome), DialError> {
    hello.delivery = DeliveryMode::Lanes;
    let info = connection.info().clone();
    match greet(connection, &hello, limit, || {}).await {
        Greeted::Failed(error) => Err(DialError::Failed(Arc::new(error))),
        Greeted::Refused(refusal) => Err(DialError::Refused(refusal)),
        Greeted::Datagrams(_) => {
            let what = "datagrams were not asked for".to_owned();
            Err(DialError::Refused(Refusal::Unsupported { what }))
        }
        Greeted::Welcome(welcome) => {
            let (welcome, reader, writer) = *welcome;
            let trunk = Trunk::new(writer, info, lanes);
            Ok((trunk.clone(), TrunkDriver::new(trunk, reader), welcome))
        }
    }
}

/// Answers a greeting that asked for lanes; the connection becomes a trunk.
///
/// # Errors
///
/// The peer hung up, or does not read within `limit`; [`io::ErrorKind::InvalidInput`] when it did not ask for lanes.
///
/// # Cancel safety
///
/// Dropping the future hangs up; the peer dials again.
pub async fn accept(
    greeting: Greeting,
    welcome: Welcome,
    lanes: u8,
    limit: Duration,
) -> io::Result<(Trunk, TrunkDriver)> {
    if greeting.hello().delivery != DeliveryMode::Lanes {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let info = greeting.info().clone();
    let (reader, mut writer) = greeting.into_halves().ok_or(io::ErrorKind::NotConnected)?;
    let answer = Answer::Welcome(welcome).encode();
    timeout(limit, async {
        writer.write_all(&answer).await?;
        writer.flush().await
    })
    .await
    .map_err(|_| io::ErrorKind::TimedOut)??;
    let trunk = Trunk::new(writer, info, lanes);
    Ok((trunk.clone(), TrunkDriver::new(trunk, reader)))
}
