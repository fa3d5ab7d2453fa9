//! The hostile client: a process of its own with one thread of the lowest priority, bounded in memory and time.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::attacks::Attack;

/// The address space that an attacker may fill: all of what it does fits many times.
const MEMORY_MAX: u64 = 4 << 30;
/// How much longer than it is wanted it lives if nobody ends it.
const OVERTIME: Duration = Duration::from_secs(5);
/// The pause before a connection that ended is made anew: without it a refusal would be answered by a connect at once.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// What is read at once of that which nobody looks at.
const READ_BYTES: usize = 64 * 1024;

/// Whom it attacks, and what it does there.
pub struct Attacker {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    from: Ipv4Addr,
    /// From how many addresses it comes, one after the other.
    addresses: u32,
    tasks: JoinSet<()>,
}

/// The ports of its connections.
const PORTS: (u16, u16) = (1024, 32768);
/// How many ports it took.
static BOUND: AtomicUsize = AtomicUsize::new(0);

/// How many connections were made.
static MADE: AtomicUsize = AtomicUsize::new(0);

impl Attacker {
    /// Says that it begins, attacks until the input ends or its time is over, and prints how many connections it made.
    pub fn run(attack: &Attack, http: SocketAddr, grpc: SocketAddr, from: Ipv4Addr, time: Duration) {
        bound();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut attacker = Self { http, grpc, from, addresses: 1, tasks: JoinSet::new() };
            println!("ready");
            (attack.start)(&mut attacker);
            // The end of the input is the end of whoever started it.
            let (mut input, mut byte) = (tokio::io::stdin(), [0]);
            let _ = timeout(time + OVERTIME, input.read(&mut byte)).await;
            println!("{}", MADE.load(Relaxed));
        });
        runtime.shutdown_background();
    }

    /// Comes from so many addresses from now on.
    pub fn spread(&mut self, addresses: u32) {
        self.addresses = addresses;
    }

    /// Does this on so many connections, and anew on another one when it has ended.
    pub fn connections<F>(
        &mut self,
        count: usize,
        to: SocketAddr,
        act: impl Fn(TcpStream) -> F + Copy + Send + 'static,
    ) where
        F: Future<Output = io::Result<()>> + Send,
    {
        self.slow_connections(count, to, None, act);
    }

    /// The same with a receive buffer of so many bytes.
    pub fn slow_connections<F>(
        &mut self,
        count: usize,
        to: SocketAddr,
        buffer: Option<u32>,
        act: impl Fn(TcpStream) -> F + Copy + Send + 'static,
    ) where
        F: Future<Output = io::Result<()>> + Send,
    {
        for place in (0..self.addresses).cycle().take(count) {
            let from = Ipv4Addr::from(u32::from(self.from) + place);
            self.tasks.spawn(async move {
                loop {
                    if let Ok(stream) = connect(from, to, buffer).await {
                        let _ = act(stream).await;
                    }
                    sleep(AGAIN).await;
                }
            });
        }
    }
}

/// A priority far below that of the nodes and their clients, a bound of memory, and as many descriptors as there can be.
fn bound() {
    nice(19).unwrap();
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) }).unwrap();
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
}

/// Takes the next port: the system looks at all that are taken to find a free one, which would slow the attacker down.
fn bind(socket: &TcpSocket, from: Ipv4Addr) -> io::Result<()> {
    let ports = PORTS.1 - PORTS.0;
    socket.set_reuseaddr(true)?;
    let port = PORTS.0 + (BOUND.fetch_add(1, Relaxed) % ports as usize) as u16;
    socket.bind((from, port).into())
}

async fn connect(from: Ipv4Addr, to: SocketAddr, buffer: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    bind(&socket, from)?;
    let stream = timeout(CONNECT, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    MADE.fetch_add(1, Relaxed);
    Ok(stream)
}

/// Reads and drops all that is answered, while something else writes.
pub async fn drained<F>(stream: TcpStream, write: impl FnOnce(OwnedWriteHalf) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let (mut reader, writer) = stream.into_split();
    let drain = async {
        let mut buffer = vec![0; READ_BYTES];
        while reader.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::select! { result = drain => result, result = write(writer) => result }
}

/// Writes the same again and again.
pub async fn repeat(writer: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    loop {
        writer.write_all(bytes).await?;
        // A write that finds room does not wait, and the other connections must get their turn.
        tokio::task::yield_now().await;
    }
}

/// Keeps a connection and reads nothing, until the attacker ends.
pub async fn hold<T>(_connection: T) -> io::Result<()> {
    std::future::pending().await
}

/// Reads until the other side ends the connection.
pub async fn to_the_end(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
