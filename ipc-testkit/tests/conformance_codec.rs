//! The codecs keep their promises, for values of every shape.

use std::collections::BTreeMap;

use bytes::Bytes;
use ipc_testkit::{codec_conformance, conformance::codec::Subject};
use ipc_transport::{Bincode, Json, MessagePack, Postcard, Raw};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(i16),
    Tuple(bool, Option<char>),
    Struct { text: String, bytes: Vec<u8>, map: BTreeMap<String, f64>, nested: Box<Option<Self>> },
}

fn shapes() -> Vec<Vec<Shape>> {
    let deep = Shape::Struct {
        text: "grüße \u{c} \"".to_owned(),
        bytes: (0..=255).collect(),
        map: BTreeMap::from([("pi".to_owned(), 3.25), (String::new(), -0.5)]),
        nested: Box::new(Some(Shape::Tuple(true, Some('ß')))),
    };
    let single = [Shape::Unit, Shape::Newtype(-2), Shape::Tuple(false, None), deep.clone()];
    let mut all: Vec<Vec<Shape>> = single.into_iter().map(|shape| vec![shape]).collect();
    all.extend([vec![], vec![deep; 20]]);
    all
}

codec_conformance!(bincode, || Subject::new(Bincode::default(), shapes()));
codec_conformance!(json, || Subject::new(Json::default(), shapes()));
codec_conformance!(messagepack, || Subject::new(MessagePack::default(), shapes()));
codec_conformance!(postcard, || Subject::new(Postcard::default(), shapes()));
codec_conformance!(raw, || {
    let payloads = [0, 1, 100, 16 * 1024, 70_000].map(|len| Bytes::from(vec![7; len]));
    Subject::new(Raw, payloads).not_self_delimiting()
});
