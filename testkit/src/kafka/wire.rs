//! The few requests of Kafka's protocol that set a test up, in their oldest versions that current brokers speak.
//!
//! By hand so that the kit needs no client library: topics, cuts and offsets are all there is.
//! <https://kafka.apache.org/protocol>

use std::fmt;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;
const DELETE_RECORDS: i16 = 21;
const TIMEOUT_MS: i32 = 15_000;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The broker says so.
    Code { code: i16, what: String },
    /// Anything else.
    Other(String),
}

impl From<&str> for Failed {
    fn from(why: &str) -> Self {
        Self::Other(why.to_owned())
    }
}

impl From<std::io::Error> for Failed {
    fn from(why: std::io::Error) -> Self {
        Self::Other(why.to_string())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code, what } => write!(f, "error {code} for {what}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// A connection to the broker.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Failed> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self { stream })
    }

    /// How many brokers take part in the cluster.
    pub(super) async fn brokers(&mut self) -> Result<usize, Failed> {
        let mut answer = self.metadata(&[]).await?;
        answer.count()
    }

    /// The leader of each partition of a topic, -1 where there is none yet.
    pub(super) async fn leaders(&mut self, topic: &str) -> Result<Vec<i32>, Failed> {
        let mut answer = self.metadata(&[topic]).await?;
        for _ in 0..answer.count()? {
            answer.i32()?;
            answer.text()?;
            answer.i32()?;
            answer.text()?;
        }
        answer.i32()?;
        answer.count()?;
        answer.code(topic)?;
        answer.text()?;
        answer.take(1)?;
        let mut leaders = Vec::new();
        for _ in 0..answer.count()? {
            answer.i16()?;
            let (index, leader) = (answer.i32()?, answer.i32()?);
            for _ in 0..2 {
                let ids = answer.count()?;
                answer.take(ids * 4)?;
            }
            leaders.push((index, leader));
        }
        leaders.sort_unstable();
        Ok(leaders.into_iter().map(|(_, leader)| leader).collect())
    }

    pub(super) async fn create_topic(
        &mut self,
        name: &str,
        partitions: u32,
        config: &[(&str, &str)],
    ) -> Result<(), Failed> {
        let mut body = Body::default();
        body.i32(1).text(name).i32(partitions.cast_signed()).i16(1);
        body.i32(0).count(config.len());
        for (key, value) in config {
            body.text(key).text(value);
        }
        body.i32(TIMEOUT_MS).0.push(0);
        let mut answer = self.call(CREATE_TOPICS, 2, body).await?;
        answer.i32()?;
        answer.count()?;
        answer.text()?;
        answer.code(name)
    }

    pub(super) async fn delete_before(
        &mut self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Result<(), Failed> {
        let mut body = Body::default();
        body.i32(1).text(topic).i32(1);
        body.i32(partition.cast_signed())
            .i64(offset.cast_signed())
            .i32(TIMEOUT_MS);
        let mut answer = self.call(DELETE_RECORDS, 0, body).await?;
        answer.i32()?;
        answer.count()?;
        answer.text()?;
        answer.count()?;
        answer.take(4 + 8)?;
        answer.code(topic)
    }

    /// The offset of each partition at a time; -1 is the end, -2 the beginning.
    pub(super) async fn offsets(
        &mut self,
        topic: &str,
        partitions: usize,
        at: i64,
    ) -> Result<Vec<u64>, Failed> {
        let mut body = Body::default();
        body.i32(-1).i32(1).text(topic).count(partitions);
        for (_, partition) in (0..partitions).zip(0..) {
            body.i32(partition).i64(at);
        }
        let mut answer = self.call(LIST_OFFSETS, 1, body).await?;
        answer.count()?;
        answer.text()?;
        let mut found = Vec::new();
        for _ in 0..answer.count()? {
            let partition = answer.i32()?;
            answer.code(topic)?;
            answer.take(8)?;
            found.push((partition, answer.i64()?.cast_unsigned()));
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, offset)| offset).collect())
    }

    async fn metadata(&mut self, topics: &[&str]) -> Result<Answer, Failed> {
        let mut body = Body::default();
        body.count(topics.len());
        for topic in topics {
            body.text(topic);
        }
        self.call(METADATA, 1, body).await
    }

    async fn call(&mut self, api: i16, version: i16, body: Body) -> Result<Answer, Failed> {
        let mut request = Body::default();
        request.i16(api).i16(version).i32(1).text("testkit");
        request.0.extend(body.0);
        let length = u32::try_from(request.0.len()).expect("requests are short");
        self.stream.write_all(&length.to_be_bytes()).await?;
        self.stream.write_all(&request.0).await?;
        let length = self.stream.read_u32().await?;
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).await?;
        let mut answer = Answer { bytes, at: 0 };
        answer.i32()?;
        Ok(answer)
    }
}

/// A request as it grows.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).expect("few"))
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.i16(i16::try_from(text.len()).expect("short"));
        self.0.extend(text.as_bytes());
        self
    }
}

/// An answer, read from its front.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take(&mut self, length: usize) -> Result<&[u8], Failed> {
        let taken = self.bytes.get(self.at..self.at + length);
        self.at += length;
        taken.ok_or_else(|| Failed::from("an answer that is too short"))
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Failed> {
        Ok(self.take(N)?.try_into().expect("as long as asked for"))
    }

    fn i16(&mut self) -> Result<i16, Failed> {
        self.number().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Failed> {
        self.number().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Failed> {
        self.number().map(i64::from_be_bytes)
    }

    fn count(&mut self) -> Result<usize, Failed> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    /// A text that may be null.
    fn text(&mut self) -> Result<String, Failed> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn code(&mut self, what: &str) -> Result<(), Failed> {
        match self.i16()? {
            0 => Ok(()),
            code => Err(Failed::Code {
                code,
                what: what.to_owned(),
            }),
        }
    }
}
