// SPDX-License-Identifier: GPL-2.0

//! QEMU's monitor: one JSON object per line.

use std::cell::RefCell;
use std::collections::HashMap;

use anyhow::Result;
use anyhow::anyhow;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Mutex;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// The monitor of one QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    writer: Mutex<OwnedWriteHalf>,
    reader: RefCell<Option<OwnedReadHalf>>,
    calls: RefCell<(u64, HashMap<u64, oneshot::Sender<Value>>)>,
    /// QEMU takes commands (or is gone, and they fail).
    ready: watch::Sender<bool>,
    /// Why the guest went down, as far as QEMU said.
    pub(crate) shutdown: RefCell<Option<String>>,
}

impl Qmp {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            writer: Mutex::new(writer),
            reader: RefCell::new(Some(reader)),
            calls: RefCell::default(),
            ready: watch::Sender::new(false),
            shutdown: RefCell::default(),
        }
    }

    /// Reads until the QEMU is gone.
    pub(crate) async fn serve(&self) -> Result<()> {
        let end = self.read().await;
        self.calls.borrow_mut().1.clear();
        self.ready.send_replace(true);
        end
    }

    async fn read(&self) -> Result<()> {
        let reader = self.reader.take().ok_or_else(|| anyhow!("served twice"))?;
        let mut lines = BufReader::new(reader).lines();
        while let Some(line) = lines.next_line().await? {
            let value: Value = serde_json::from_str(&line)?;
            if value.get("QMP").is_some() {
                self.write(&json!({"execute": "qmp_capabilities"})).await?;
                self.ready.send_replace(true);
            } else if value["event"] == "SHUTDOWN" {
                self.shutdown
                    .replace(value["data"]["reason"].as_str().map(str::to_owned));
            } else if let Some(call) = value["id"]
                .as_u64()
                .and_then(|id| self.calls.borrow_mut().1.remove(&id))
            {
                // The caller may have given up.
                let _ = call.send(value);
            }
        }
        Ok(())
    }

    async fn write(&self, value: &Value) -> Result<()> {
        let mut line = value.to_string();
        line.push('\n');
        Ok(self.writer.lock().await.write_all(line.as_bytes()).await?)
    }

    /// Runs one command.
    pub(crate) async fn execute(&self, command: &str) -> Result<Value> {
        // The sender is a field of this: it cannot be gone.
        let _ = self.ready.subscribe().wait_for(|r| *r).await;
        let (tx, rx) = oneshot::channel();
        let id = {
            let mut calls = self.calls.borrow_mut();
            calls.0 += 1;
            let id = calls.0;
            calls.1.insert(id, tx);
            id
        };
        self.write(&json!({"execute": command, "id": id})).await?;
        let reply = rx.await.map_err(|_| anyhow!("QEMU is gone"))?;
        match reply.get("error") {
            Some(e) => Err(anyhow!("{command}: {}", e["desc"].as_str().unwrap_or("refused"))),
            None => Ok(reply["return"].clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn talks_like_qemu() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let qmp = Qmp::new(ours);
        let qemu = async {
            let (r, mut w) = theirs.into_split();
            let mut lines = BufReader::new(r).lines();
            w.write_all(b"{\"QMP\":{}}\r\n").await.unwrap();
            assert!(lines.next_line().await.unwrap().unwrap().contains("qmp_capabilities"));
            w.write_all(b"{\"return\":{}}\r\n{\"event\":\"STOP\"}\r\n")
                .await
                .unwrap();
            for reply in [r#""return":{"a":1}"#, r#""error":{"desc":"no"}"#] {
                let call: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
                w.write_all(format!("{{{reply},\"id\":{}}}\r\n", call["id"]).as_bytes())
                    .await
                    .unwrap();
            }
            w.write_all(b"{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n")
                .await
                .unwrap();
            let _ = lines.next_line().await;
        };
        let calls = async {
            assert_eq!(qmp.execute("stop").await.unwrap(), json!({"a": 1}));
            assert_eq!(qmp.execute("cont").await.unwrap_err().to_string(), "cont: no");
            assert!(qmp.execute("cont").await.is_err());
        };
        let (_, _, served) = tokio::join!(qemu, calls, qmp.serve());
        served.unwrap();
        assert_eq!(qmp.shutdown.take().as_deref(), Some("guest-reset"));
    }
}
