//! A kept-alive connection to a node that may be killed, frozen or cut at any moment: whatever goes wrong is an error here,
//! where the harness would call the test failed.

use crate::harness::Answer;
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Line {
    pub fn to(address: SocketAddr, patience: Duration) -> Result<Line> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Line {
            stream,
            unread: Vec::new(),
        })
    }

    /// After an error there is nothing more to be asked here.
    pub fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request)?;
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8(head).map_err(Error::other)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let mut answer = Answer {
            status: status.ok_or_else(|| Error::other("no status"))?,
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: Vec::new(),
        };
        match answer.header("content-length").map(str::parse) {
            Some(Ok(length)) => answer.body = self.exactly(length)?,
            Some(Err(_)) => return Err(Error::other("no length")),
            None => loop {
                let length = String::from_utf8(self.until(b"\r\n")?).map_err(Error::other)?;
                let length = usize::from_str_radix(length.trim_end(), 16).map_err(Error::other)?;
                let piece = self.exactly(length + 2)?;
                if length == 0 {
                    break;
                }
                answer.body.extend_from_slice(&piece[..length]);
            },
        }
        Ok(answer)
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(Error::other("the connection ended")),
            length => {
                self.unread.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, end) {
                return Ok(self.unread.drain(..at + end.len()).collect());
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.unread.len() < length {
            self.more()?;
        }
        Ok(self.unread.drain(..length).collect())
    }
}
