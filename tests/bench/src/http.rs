//! One GET over a fresh connection, for probes and metrics.
//!
//! **May touch:** the stream that it is given.
//!
//! **Guarantees**
//! 1. Answers with a whole body only: the connection is closed behind it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Status and body.
pub async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("no HTTP status"))?, body.to_owned()))
}
