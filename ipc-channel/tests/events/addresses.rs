//! Where servers are and how clients find them: by id, by an address, or both, with and without the optional arguments.

use ipc_channel::{
    Event,
    events::{
        Client, ClientConfig, ConnectError, GaveUp, Reply, Server, ServerConfig, Wire,
        node_ipc::default_path_v9,
    },
};
use ipc_pipeline::protocol::Refusal;
use ipc_testkit::process::TempDir;
use ipc_transport::{Endpoint, RuntimeDirectory, RuntimeNaming, StaticNaming};

use crate::support::soon;

/// N-05: an id alone, an id with a path, with a host and port, with a table, on either wire; a client needs no name, and
/// may have one. Each pair finds its server, however the optional arguments are combined.
#[tokio::test]
async fn servers_are_found_by_id_by_address_and_by_both() {
    let place = TempDir::new().unwrap();
    let directory = RuntimeDirectory::at(place.join("names")).unwrap();
    let by_id = || RuntimeNaming::new(directory.clone());
    let unix = |name: &str| -> Endpoint { format!("unix:{}", place.join(name).display()).parse().unwrap() };
    let v9 = default_path_v9(place.path().to_str().unwrap(), "app.", "world").unwrap();
    for wire in [Wire::Native, Wire::node_ipc()] {
        for name in [None, Some("hello")] {
            let named = |config: ClientConfig| match name {
                Some(name) => config.name(name),
                None => config,
            };
            let server = || ServerConfig::new("world").wire(wire.clone());
            let client = || named(ClientConfig::new("world").wire(wire.clone()));

            talk(server().naming(by_id()), |_| client().naming(by_id())).await;
            let at = unix("explicit.sock");
            talk(server().endpoint(at.clone()), |_| client().endpoint(at.clone())).await;
            let at: Endpoint = format!("unix:{v9}").parse().unwrap();
            talk(server().endpoint(at.clone()), |_| client().endpoint(at.clone())).await;
            let any: Endpoint = "tcp://127.0.0.1:0".parse().unwrap();
            talk(server().endpoint(any.clone()), |world| client().endpoint(world.endpoint().clone())).await;
            talk(server().endpoint(any), |world| {
                client().naming(StaticNaming::new().with("world", world.endpoint().clone()))
            })
            .await;
        }
    }
}

/// A server at the address of another one is not taken for it.
#[tokio::test]
async fn an_address_where_another_server_lives_is_refused() {
    let at: Endpoint = "tcp://127.0.0.1:0".parse().unwrap();
    let moon = Server::start(ServerConfig::new("moon").endpoint(at)).await.unwrap();
    let lost = Client::start(ClientConfig::new("world").endpoint(moon.endpoint().clone())).unwrap();
    let why = soon("the refusal", lost.connected()).await.unwrap_err();
    let GaveUp::Refused(error) = &why else { panic!("{why:?}") };
    assert!(
        matches!(&**error, ConnectError::Refused(Refusal::WrongProcess { wanted }) if wanted == "world"),
        "{error:?}"
    );
}

/// One event there and one back.
async fn talk(server: ServerConfig, client: impl FnOnce(&Server) -> ClientConfig) {
    let world = Server::start_with(server, |world| {
        world.on("message", async |data: Event<String>, reply: Reply| {
            reply.emit("message", &format!("{} world!", *data)).await.unwrap();
        });
    })
    .await
    .unwrap();
    let hello = Client::start(client(&world)).unwrap();
    let mut answers = hello.events::<String>("message", 4).unwrap();
    hello.emit("message", "hello").await.unwrap();
    let (answer, _) = soon("the answer", answers.next()).await.unwrap();
    assert_eq!(*answer, "hello world!");
    hello.close(crate::support::PATIENCE).await.unwrap();
    world.close(crate::support::PATIENCE).await.unwrap();
}
