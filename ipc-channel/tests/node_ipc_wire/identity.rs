//! The id that a peer of node-ipc gives itself in its data.

use ipc_channel::events::node_ipc::decode;

/// N-39: the `id` of the data, when it is a string that is not empty.
#[test]
fn the_id_that_a_peer_claims_is_read_from_its_data() {
    let table = [
        (r#"{"id":"client-1","text":"hello"}"#, Some("client-1")),
        (r#"{"text":{"id":"inner"},"list":[{"id":"other"}],"id":"last"}"#, Some("last")),
        (r#"{"id":"a","id":"b"}"#, Some("b")),
        (r#"{"\u0069d":"\u00e9\n"}"#, Some("é\n")),
        (r#"{ "id" : "a" }"#, Some("a")),
        (r#"{"id":""}"#, None),
        (r#"{"id":7}"#, None),
        (r#"{"id":"a","id":null}"#, None),
        (r#"{"id":"\ud800"}"#, None),
        (r#"{"text":{"id":"inner"}}"#, None),
        (r#"["id","a"]"#, None),
        (r#""id""#, None),
        ("{}", None),
        ("null", None),
    ];
    for (data, id) in table {
        let frame = format!(r#"{{"type":"a","data":{data}}}"#);
        assert_eq!(decode(frame.as_bytes()).unwrap().claimed_id().as_deref(), id, "{data}");
    }
    assert_eq!(decode(br#"{"type":"a"}"#).unwrap().claimed_id(), None);
}
