//! What the task that takes and the task that reads do to each other at the worst moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use common::{Site, capacity};
use ipc_pipeline::link::{ReceiverConfig, RecvError};
use ipc_transport::{DecodeError, Decoder, Raw};

/// Stops in the decoding of a value until the test has done what it wants done meanwhile.
struct Stopping {
    on: Arc<AtomicBool>,
    reached: mpsc::Sender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Stopping {
    fn stop(&self) {
        if self.on.swap(false, Ordering::SeqCst) {
            self.reached.send(()).unwrap();
            self.go_on.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        }
    }
}

impl Decoder<usize> for Stopping {
    fn id(&self) -> &str {
        "raw"
    }

    fn decode(&self, input: &[u8]) -> Result<usize, DecodeError> {
        self.stop();
        Ok(input.len())
    }
}

/// An abort that comes while values are being decoded: either they count as taken, or they are not handed out.
#[test]
fn an_abort_in_the_midst_of_a_take_stays_exact() {
    for (size, many) in [(10, true), (10, false), (100_000, true), (100_000, false)] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let site = Site::mem().await;
            let on = Arc::new(AtomicBool::new(false));
            let ((reached, at_stop), (resume, go_on)) = (mpsc::channel(), mpsc::channel());
            let decoder = Stopping { on: on.clone(), reached, go_on: Mutex::new(go_on) };
            let mut receiver = site.receiver_with::<usize>(ReceiverConfig::default(), decoder);
            let link = site.link_from::<bytes::Bytes>("OUT", capacity(20), Raw);
            for _ in 0..7 {
                link.sender().send(vec![1; size].into()).await.unwrap();
            }
            let first = receiver.recv().await.unwrap();
            while receiver.source(first.source()).unwrap().received_bytes < 7 * size as u64 {
                tokio::task::yield_now().await;
            }
            on.store(true, Ordering::SeqCst);
            let aborting = tokio::spawn(async move {
                tokio::task::spawn_blocking(move || at_stop.recv().unwrap()).await.unwrap();
                let aborted = link.abort().await;
                resume.send(()).unwrap();
                aborted
            });
            let mut taken = 1;
            let mut out = Vec::new();
            loop {
                let outcome = if many {
                    receiver.recv_many(&mut out, 4).await
                } else {
                    receiver.recv().await.map(|_| 1)
                };
                match outcome {
                    Ok(count) => taken += count as u64,
                    Err(error) => {
                        assert_eq!(error, RecvError::EndOfStream);
                        break;
                    }
                }
            }
            let aborted = aborting.await.unwrap();
            assert_eq!(aborted.exact(), Some(7 - taken), "{size} bytes, many: {many}");
        });
    }
}
