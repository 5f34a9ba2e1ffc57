//! Echoes what arrives at a Unix socket: `outside-echo unix:/run/user/1000/echo.sock`.

use std::{error::Error, io};

use ipc_transport::{Connection, Endpoint, ListenOptions, Listener, Transports};
use tokio::io::AsyncWriteExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let text = std::env::args().nth(1).ok_or("usage: outside-echo ENDPOINT")?;
    let at: Endpoint = text.parse()?;
    let mut listener = Transports::default().listen(&at, &ListenOptions::default()).await?;
    println!("listening at {}", listener.local_endpoint());
    serve(listener.as_mut()).await?;
    Ok(())
}

/// Serves one connection after the other; one that fails ends alone.
async fn serve(listener: &mut dyn Listener) -> Result<(), ipc_transport::Error> {
    loop {
        let incoming = listener.accept().await?;
        match incoming.establish().await {
            Ok(connection) => {
                if let Err(error) = echo(connection).await {
                    eprintln!("a connection was lost: {error}");
                }
            }
            Err(error) => eprintln!("a connection was not made: {error}"),
        }
    }
}

async fn echo(connection: Connection) -> io::Result<()> {
    let (mut reader, mut writer, _) = connection.into_parts();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use ipc_transport::{ConnectOptions, RuntimeDirectory};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_comes_back() {
        let place = std::env::temp_dir().join(format!("outside-echo-{}", std::process::id()));
        // Makes it private, and refuses one that is not.
        let directory = RuntimeDirectory::at(&place).unwrap();
        let at = Endpoint::unix(place.join("echo.sock")).unwrap();
        let transports = Transports::local();
        let mut listener = transports.listen(&at, &ListenOptions::default()).await.unwrap();
        let asking = async {
            for text in ["tea", "more tea"] {
                let connection = transports.connect(&at, &ConnectOptions::default()).await.unwrap();
                let (mut reader, mut writer, info) = connection.into_parts();
                assert_eq!(info.peer.pid(), Some(std::process::id()));
                writer.write_all(text.as_bytes()).await.unwrap();
                writer.shutdown().await.unwrap();
                let mut answer = String::new();
                reader.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, text);
            }
        };
        tokio::select! {
            () = asking => {}
            outcome = serve(listener.as_mut()) => panic!("the listener ended: {outcome:?}"),
        }
        listener.close().await.unwrap();
        drop(directory);
        std::fs::remove_dir_all(place).unwrap();
    }
}
