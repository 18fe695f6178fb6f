/**
 * A WebSocket client that sends whatever bytes it is told to, so that a test can say what no library would: frames that
 * are no packets, attachments without their packet, frames that break the WebSocket protocol itself.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

const TEXT = 1
const BINARY = 2
const CLOSE = 8

export class RawSocket {
  /** Text frames received, oldest first; engine.io's pings are answered and left out. */
  readonly texts: string[] = []
  /** The WebSocket close code, 1006 where the line was just cut; null while it is open. */
  closeCode: number | null = null
  readonly closed: Promise<void>
  private readonly socket: Socket
  private buffer = Buffer.alloc(0)
  private upgraded = false
  private awoken: () => void = () => {}
  private onUpgrade: () => void = () => {}
  private answersPings = true

  private constructor(socket: Socket) {
    this.socket = socket
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.closeCode ??= 1006
        this.awoken()
        resolve()
      })
    })
    socket.on('error', () => {})
    socket.on('data', (data) => this.received(data))
  }

  /** A WebSocket with engine.io's handshake done; with `joined`, also in Socket.IO's default namespace. */
  static async open(url: string, { joined = true } = {}): Promise<RawSocket> {
    const { hostname, port } = new URL(url)
    const raw = new RawSocket(connect({ host: hostname, port: Number(port) }))
    raw.socket.write(
      `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\n` +
        `Connection: Upgrade\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
    )
    await new Promise<void>((resolve) => {
      raw.onUpgrade = resolve
    })
    await raw.text((text) => text.startsWith('0'))
    if (joined) {
      raw.send('40')
      await raw.text((text) => text.startsWith('40'))
    }
    return raw
  }

  get open(): boolean {
    return this.closeCode === null
  }

  send(message: string | Uint8Array): void {
    const binary = typeof message !== 'string'
    this.frame(binary ? BINARY : TEXT, binary ? Buffer.from(message) : Buffer.from(message, 'utf8'))
  }

  /** One WebSocket frame of any operation code. */
  frame(operation: number, payload: Buffer): void {
    const mask = randomBytes(4)
    const { length } = payload
    const head =
      length < 126
        ? Buffer.from([0x80 | operation, 0x80 | length])
        : length < 65536
          ? Buffer.from([0x80 | operation, 0x80 | 126, length >> 8, length & 255])
          : Buffer.concat([Buffer.from([0x80 | operation, 0x80 | 127]), u64(length)])
    const masked = Buffer.from(payload)
    for (let i = 0; i < length; i++) masked[i] ^= mask[i & 3]
    this.bytes(Buffer.concat([head, mask, masked]))
  }

  /** Bytes as they are, below the WebSocket protocol. */
  bytes(bytes: Uint8Array): void {
    if (this.socket.writable) this.socket.write(bytes)
  }

  /** Reads nothing more: what the other end sends stays with it. */
  deafen(): void {
    this.answersPings = false
    this.socket.pause()
  }

  /** Bytes that the other end has not taken yet. */
  get unsentBytes(): number {
    return this.socket.writableLength
  }

  /** The first text frame, past or future, that is wanted; throws when the connection ends or time runs out before. */
  async text(wanted: (text: string) => boolean, withinMs = 10_000): Promise<string> {
    const deadline = Date.now() + withinMs
    for (let read = 0; ; ) {
      for (; read < this.texts.length; read++) if (wanted(this.texts[read])) return this.texts[read]
      if (!this.open) throw new Error(`the connection ended with ${this.closeCode}`)
      const left = deadline - Date.now()
      if (left <= 0) throw new Error(`no such frame within ${withinMs} ms; got ${this.texts.join(' ')}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.awoken = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** Asks through Socket.IO with an acknowledgement; the answer. */
  async ask(event: string, message: unknown, id: number): Promise<Record<string, unknown>> {
    this.send(`42${id}${JSON.stringify([event, message])}`)
    const text = await this.text((text) => text.startsWith(`43${id}[`))
    return JSON.parse(text.slice(`43${id}`.length))[0]
  }

  close(): void {
    this.socket.destroy()
  }

  private received(data: Buffer): void {
    this.buffer = Buffer.concat([this.buffer, data])
    if (!this.upgraded) {
      const end = this.buffer.indexOf('\r\n\r\n')
      if (end < 0) return
      this.upgraded = true
      this.buffer = this.buffer.subarray(end + 4)
      this.onUpgrade()
    }
    for (;;) {
      if (this.buffer.length < 2) return
      const short = this.buffer[1] & 127
      const head = short < 126 ? 2 : short === 126 ? 4 : 10
      if (this.buffer.length < head) return
      const length =
        short < 126 ? short : short === 126 ? this.buffer.readUInt16BE(2) : Number(this.buffer.readBigUInt64BE(2))
      if (this.buffer.length < head + length) return
      const operation = this.buffer[0] & 15
      const payload = this.buffer.subarray(head, head + length)
      this.buffer = this.buffer.subarray(head + length)
      if (operation === CLOSE) {
        this.closeCode = length >= 2 ? payload.readUInt16BE(0) : 1005
        this.frame(CLOSE, payload)
        this.socket.end()
      } else if (operation === TEXT && payload.toString() === '2') {
        if (this.answersPings) this.send('3')
      } else if (operation === TEXT) this.texts.push(payload.toString())
      this.awoken()
    }
  }
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}
