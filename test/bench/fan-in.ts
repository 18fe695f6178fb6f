/**
 * How much does one update cost the coordinator when 1, 16 or 256 volunteers push at once? Synthetic volunteers (real
 * sockets, no compute) push int8 updates of 55,386 parameters that are journaled, applied by Adagrad and
 * acknowledged; each takes a lease and its start for every update, as the real one does. Beside it in the same run,
 * Socket.IO servers that echo messages of the same size to as many clients: a bare one, as `npm install socket.io`
 * gives it, and one with the native add-on (bufferutil) that the coordinator has too.
 *
 * The load comes from this process on the other core: where it is the slower one, the rates say what it can send.
 * Every figure is the worst of the three crowds, but for the memory, which is that of the 10,000 updates of the
 * largest.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { io, type Socket } from 'socket.io-client'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { type Lease, type LeaseReply, PROTOCOL_VERSION, type Start } from '../../shared/protocol.ts'
import { Random } from '../../shared/random.ts'
import type { Usage } from './fan-in-server.ts'
import { type Row, report } from './report.ts'

const PARAMETERS = 55_386
const VOLUNTEERS = [1, 16, 256]
const MESSAGES = { 1: 6_000, 16: 6_000, 256: 10_000 } as Record<number, number>
/** So many first, in which caches, versions and the compiler's work fill up; memory is measured from then on. */
const WARM_UP = 15_000

class Measured {
  private readonly child: ChildProcess
  readonly url: Promise<string>

  constructor(role: string, env: Record<string, string>, ...args: string[]) {
    const options = {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'] as const,
      env: { ...process.env, ...env },
    }
    this.child = fork(new URL('./fan-in-server.ts', import.meta.url), [role, ...args], {
      ...options,
      stdio: [...options.stdio],
    })
    this.url = this.next<{ url: string }>().then(({ url }) => url)
  }

  usage(): Promise<Usage> {
    this.child.send('usage')
    return this.next<Usage>()
  }

  stop(): void {
    this.child.kill('SIGKILL')
  }

  private next<T>(): Promise<T> {
    return new Promise((resolve) => this.child.once('message', (message) => resolve(message as T)))
  }
}

const gradient = new Float32Array(PARAMETERS)
const random = new Random(1)
for (let i = 0; i < PARAMETERS; i++) gradient[i] = 0.01 * (random.uniform(i) - 0.5)
const payload = Buffer.from(encodeVector(codecs.int8, gradient))

async function connect(url: string): Promise<Socket> {
  const socket = io(url, { transports: ['websocket'], forceNew: true })
  await new Promise((resolve) => socket.once('connect', () => resolve(undefined)))
  return socket
}

type Push = () => Promise<void>

/** A volunteer that pushes: the lease for the next update is asked for while this one is under way. */
async function volunteer(url: string, index: number): Promise<{ push: Push; socket: Socket }> {
  const socket = await connect(url)
  const instance = `bench${String(index).padStart(6, '0')}`
  const ask = async (event: string, message: object) => {
    const reply = await socket.emitWithAck(event, message)
    if (!reply.ok) throw new Error(`${event} refused: ${reply.code} ${reply.message}`)
    return reply
  }
  await ask('hello', { protocol: PROTOCOL_VERSION, instance, backend: 'wasm', device: 'synthetic' })
  const lease = async () => {
    const reply = (await ask('lease', {})) as LeaseReply
    if (!('lease' in reply)) throw new Error('no work')
    return reply.lease.id
  }
  let { start } = (await ask('start', { lease: await lease() })) as { start: Start }
  let next = await lease()
  const push = async () => {
    const counts = { minibatches: 1, examples: 1, lossSum: 2.3, correct: 0, computeMs: 1 }
    const update = { lease: start.lease, version: start.version, ...counts, size: payload.length, payload, next }
    const accepted = (await ask('update', update)) as { start: Start; lease?: Lease }
    start = accepted.start
    next = accepted.lease?.id ?? (await lease())
  }
  return { push, socket }
}

async function echoer(url: string): Promise<{ push: Push; socket: Socket }> {
  const socket = await connect(url)
  return { push: async () => void (await socket.emitWithAck('echo', payload)), socket }
}

/** Pushes `count` messages from all clients together; milliseconds. */
async function push(clients: Push[], count: number): Promise<number> {
  const began = performance.now()
  let left = count
  await Promise.all(
    clients.map(async (client) => {
      while (left-- > 0) await client()
    }),
  )
  return performance.now() - began
}

interface Measurement {
  rate: number
  usage: Usage
  growthMB: number
}

async function measure(
  server: Measured,
  count: number,
  messages: number,
  open: (url: string, index: number) => Promise<{ push: Push; socket: Socket }>,
): Promise<Measurement> {
  const url = await server.url
  const clients = await Promise.all(Array.from({ length: count }, (_, i) => open(url, 1000 * count + i)))
  const pushes = clients.map((client) => client.push)
  await push(pushes, WARM_UP)
  const before = await server.usage()
  const ms = await push(pushes, messages)
  const usage = await server.usage()
  for (const { socket } of clients) socket.close()
  return { rate: (1000 * messages) / ms, usage, growthMB: usage.rssMB - before.rssMB }
}

const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-fan-in-'))
const grid = new Measured('coordinator', {}, folder)
const bare = new Measured('echo', { WS_NO_BUFFER_UTIL: '1' })
const native = new Measured('echo', {})
const rows: Row[] = []
const figures = {
  cpuMsPerUpdate: 0,
  rateOverEcho: Number.POSITIVE_INFINITY,
  rateOverEchoWithAddOn: Number.POSITIVE_INFINITY,
  loopDelayP99Ms: 0,
  rssGrowthMB: 0,
}
try {
  for (const count of VOLUNTEERS) {
    const messages = MESSAGES[count]
    const echo = await measure(bare, count, messages, echoer)
    const nativeEcho = await measure(native, count, messages, echoer)
    const updates = await measure(grid, count, messages, volunteer)
    const cpuMs = updates.usage.cpuMs / messages
    rows.push({
      volunteers: count,
      updates: messages,
      'CPU ms/update': cpuMs,
      'updates/s': updates.rate,
      'bare echoes/s': echo.rate,
      'CPU ms/echo': echo.usage.cpuMs / messages,
      'updates/bare echoes': updates.rate / echo.rate,
      'echoes/s': nativeEcho.rate,
      'updates/echoes': updates.rate / nativeEcho.rate,
      'loop delay p99 ms': updates.usage.loopDelayP99Ms,
      'RSS MB': updates.usage.rssMB,
      'RSS growth MB': updates.growthMB,
    })
    figures.cpuMsPerUpdate = Math.max(figures.cpuMsPerUpdate, cpuMs)
    figures.rateOverEcho = Math.min(figures.rateOverEcho, updates.rate / echo.rate)
    figures.rateOverEchoWithAddOn = Math.min(figures.rateOverEchoWithAddOn, updates.rate / nativeEcho.rate)
    figures.loopDelayP99Ms = Math.max(figures.loopDelayP99Ms, updates.usage.loopDelayP99Ms)
    figures.rssGrowthMB = updates.growthMB
  }
} finally {
  grid.stop()
  bare.stop()
  native.stop()
  rmSync(folder, { recursive: true, force: true })
}
report('fan-in', rows, figures)
