//! One server that tells something to all of its clients, and something else to one of them:
//!
//! ```text
//! cargo run --example broadcast
//! ```
//!
//! All are in this program, which ends by itself. A broadcast is encoded once, and no client holds up another.
#![allow(clippy::print_stdout, reason = "a program that shows what it does")]

use std::{error::Error, time::Duration};

use ipc_channel::events::{Client, ClientConfig, Server, ServerConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The system picks the port.
    let server = Server::start(ServerConfig::new("town").endpoint("tcp://127.0.0.1:0".parse()?)).await?;
    let mut homes = Vec::new();
    for name in ["ann", "bob", "cyd"] {
        let config = ClientConfig::new("town").endpoint(server.endpoint().clone()).name(name);
        let client = Client::start(config)?;
        let news = client.events::<String>("news", 10)?;
        let letters = client.events::<String>("letter", 10)?;
        client.connected().await?;
        homes.push((name, client, news, letters));
    }

    let told = server.broadcast("news", "the bridge is open").await?;
    println!("town: told {told} clients");
    server.emit("bob", "letter", "your parcel is here").await?;

    for (name, _, news, _) in &mut homes {
        let (event, _) = news.next().await.ok_or("the client has ended")?;
        println!("{name}: news, {}", *event);
    }
    let (name, bob, _, letters) = &mut homes[1];
    let (event, _) = letters.next().await.ok_or("the client has ended")?;
    println!("{name}: a letter, {}", *event);

    // Clients tell each other things as well, by way of the server.
    let told = bob.broadcast("news", "bob has a parcel", PATIENCE).await?;
    println!("bob: told {told} others");
    for (name, _, news, _) in homes.iter_mut().filter(|(name, ..)| *name != "bob") {
        let (event, _) = news.next().await.ok_or("the client has ended")?;
        println!("{name}: news, {}", *event);
    }
    for (_, client, ..) in homes {
        client.close(PATIENCE).await?;
    }
    Ok(server.close(PATIENCE).await?)
}

/// Far above what a run takes.
const PATIENCE: Duration = Duration::from_secs(60);
