//! One receiving end on a connection, and what became of the bytes it was given.

use std::num::NonZeroU64;

use ipc_pipeline::protocol::{
    Arrival, Budget, Control, FrameReader, HEADER_LEN, Header, Hello, Incoming, IncomingConfig, Kind,
    ProtocolError, SessionId, Taken,
};

/// A value as the application would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) number: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) redelivered: bool,
}

/// A receiving machine with its reader; takes everything that arrives.
pub(crate) struct Receiving {
    pub(crate) machine: Incoming,
    pub(crate) reader: FrameReader,
    pub(crate) values: Vec<Value>,
    taken: Taken,
}

impl Receiving {
    /// A session that was welcomed and has not seen a frame.
    pub(crate) fn welcomed(config: IncomingConfig, hello: &Hello) -> Self {
        let mut machine = Incoming::new(config, hello, Budget::new(1 << 30).share());
        machine.handle_hello(hello).expect("the first hello of a session is welcome");
        let taken = machine.taken();
        Self { machine, reader: FrameReader::new(), values: Vec::new(), taken }
    }

    /// A session whose first frame was RESUME and which has promised as much as it ever will.
    pub(crate) fn resumed(config: IncomingConfig, hello: &Hello) -> Self {
        let mut this = Self::welcomed(config, hello);
        let mut bytes = frame(Control::Resume { first: hello.lowest, maybe_seen_until: 0 });
        bytes.extend(frame(Control::Need { waiting: 1 << 40, next_size: 0 }));
        this.feed(&bytes).expect("a link may be resumed");
        let mut answer = Vec::new();
        this.machine.poll_control(false, &mut answer);
        assert!(!answer.is_empty(), "the request is answered with a larger promise");
        this
    }

    /// Bytes arrive; what they complete is taken.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut arrivals = Vec::new();
        let outcome = self.reader.handle_bytes(bytes, &mut self.machine, &mut arrivals);
        for arrival in arrivals {
            self.take(arrival);
        }
        self.machine.handle_taken(self.taken);
        outcome
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Large { number, payload, maybe_seen_until } => {
                let pieces = payload.len().div_ceil(ipc_pipeline::protocol::MAX_PAYLOAD).max(1);
                let bytes = payload.len() + pieces * HEADER_LEN;
                self.take_value(Value { number, payload, redelivered: number <= maybe_seen_until }, bytes);
            }
            Arrival::Run(run) => {
                let (mut at, mut number) = (run.start, run.first);
                while at < run.end {
                    let header =
                        Header::decode(*run.segment[at..run.end].first_chunk().expect("whole frames"));
                    let payload = &run.segment[at + HEADER_LEN..at + header.frame_len()];
                    at += header.frame_len();
                    match header.kind().expect("runs hold frames that were understood") {
                        Some(Kind::Data) => {
                            let redelivered = number <= run.maybe_seen_until;
                            let payload = payload.to_vec();
                            self.take_value(Value { number, payload, redelivered }, header.frame_len());
                            number += 1;
                        }
                        Some(Kind::Skip) => {
                            let Control::Skip { count } =
                                Control::decode(Kind::Skip, payload).expect("checked")
                            else {
                                unreachable!("a SKIP frame decodes to a SKIP")
                            };
                            number += count;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn take_value(&mut self, value: Value, bytes: usize) {
        self.taken.number = value.number;
        self.taken.values += 1;
        self.taken.bytes += bytes as u64;
        self.values.push(value);
    }
}

/// A hello of a fresh session.
pub(crate) fn hello() -> Hello {
    let mut hello = Hello::new(SessionId::from_bits(7), "raw");
    hello.capacity = 1 << 20;
    hello.max_message = 1 << 20;
    hello
}

/// A receiving end that lets much in.
pub(crate) fn config() -> IncomingConfig {
    let mut config = IncomingConfig::default();
    config.window = NonZeroU64::new(1 << 20).unwrap();
    config.max_window_bytes = 1 << 30;
    config
}

/// A control frame's bytes.
pub(crate) fn frame(control: Control) -> Vec<u8> {
    let mut bytes = Vec::new();
    control.encode(&mut bytes);
    bytes
}

/// A frame of any kind with this payload.
pub(crate) fn raw(kind: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, lane: 0, len: payload.len() as u32 };
    [&header.encode()[..], payload].concat()
}

/// A whole value.
pub(crate) fn data(payload: &[u8]) -> Vec<u8> {
    raw(Kind::Data as u8, payload)
}

/// A small deterministic source of numbers, so that a seed says everything.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
