/**
 * The measured process of the fan-in benchmark: a real coordinator (`coordinator <data folder>`), or a bare Socket.IO
 * server that echoes (`echo`). Tells its parent its address, and on request what it used since the last request.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Server } from 'socket.io'
import { startServer } from '../../coordinator/server.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'

export interface Usage {
  cpuMs: number
  loopDelayP99Ms: number
  rssMB: number
}

/** 55,386 parameters, the size of the nearest peer's MNIST model (PEERS D3). */
const SPEC = {
  name: 'fan-in',
  dataset: { name: 'mnist', train: 60000, test: 100 },
  model: { template: 'mlp', hidden: [46, 338] },
  strategy: { name: 'downpour', batchSize: 1, pushEvery: 1, maxStaleness: 100000 },
  updateRule: { name: 'adagrad', rate: 1e-4 },
  codec: { up: 'int8' },
  stop: { epochs: 1000 },
  evaluateEveryEpochs: 0,
}

const [role, folder] = process.argv.slice(2)

async function coordinator(): Promise<string> {
  const server = await startServer({ port: 0, dataFolder: folder, ownVolunteer: false })
  const parsed = parseRunSpec(SPEC)
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  server.runs.create('fanin', parsed.spec, Date.now())
  return server.url
}

async function echo(): Promise<string> {
  const http = createServer()
  const io = new Server(http, { transports: ['websocket'], perMessageDeflate: false, serveClient: false })
  io.on('connection', (socket) => {
    socket.on('echo', (payload: Uint8Array, answer: (payload: Uint8Array) => void) => answer(payload))
  })
  await new Promise<void>((resolve) => http.listen(0, resolve))
  return `http://localhost:${(http.address() as AddressInfo).port}`
}

const url = await (role === 'echo' ? echo() : coordinator())
const delay = monitorEventLoopDelay({ resolution: 5 })
delay.enable()
let before = process.cpuUsage()
process.on('message', () => {
  const { user, system } = process.cpuUsage(before)
  const usage: Usage = {
    cpuMs: (user + system) / 1000,
    loopDelayP99Ms: delay.percentile(99) / 1e6,
    rssMB: process.memoryUsage.rss() / 2 ** 20,
  }
  before = process.cpuUsage()
  delay.reset()
  process.send!(usage)
})
process.send!({ url })
