/**
 * Builds the parts, joins them and holds the runs' timer. Nothing listens before `startServer` is called, and `close`
 * leaves nothing behind but HEAP_GROWTH: a test starts a real coordinator on port 0 and drops it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import type { FastifyInstance } from 'fastify'
import { type Logger, pino } from 'pino'
import type { Registry } from 'prom-client'
import { Server } from 'socket.io'
import { MAX_FRAME_BYTES } from '../shared/protocol.ts'
import type { RunSpec } from '../shared/run-spec.ts'
import type { Dataset } from './datasets/dataset.ts'
import { openDataset } from './datasets/datasets.ts'
import { Events } from './gateway/events.ts'
import { openHttp } from './gateway/http.ts'
import { Identities } from './gateway/identities.ts'
import { openMetrics } from './gateway/metrics.ts'
import { parser } from './gateway/parser.ts'
import { Volunteers } from './gateway/volunteers.ts'
import { type Journal, StorageError } from './journal/journal.ts'
import { openThreadJournal } from './journal/thread-journal.ts'
import { OwnVolunteer } from './own-volunteer.ts'
import { Runs } from './run/runs.ts'

const TICK_MS = 1_000
/**
 * V8 holds buffers, which lie outside its heap, against how far the heap may grow before it is collected: with a heap
 * of 25 MB every 8 MB that went through a socket had it collected as a whole, two fifths of what a large update cost.
 * This far, in per cent, it may grow, in every thread of the process, which is some 100 MB larger for it.
 */
const HEAP_GROWTH = '--heap-growing-percent=1000'
/** Characters of the shortest operator token that is one. */
const TOKEN_MIN = 16
/** A volunteer that is silent so long is gone; it comes back as itself. */
const PING_INTERVAL_MS = 20_000
const PING_TIMEOUT_MS = 20_000

export interface ServerOptions {
  /** 0 takes any free port. */
  readonly port: number
  readonly host?: string
  readonly dataFolder: string
  /** Starts the coordinator's own trusted volunteer, which evaluates; without one no evaluation is ever done. */
  readonly ownVolunteer?: boolean
  /** Address under which a CDN serves `/blobs`. */
  readonly blobAddress?: string | null
  readonly pagesFolder?: string
  readonly log?: Logger
  /**
   * The journal is gone for good, or the runs are not what it says: the process can only end, and start again from it.
   */
  readonly onBroken?: (error: Error) => void
  /** Another journal, dataset or clock than the real ones, for tests. */
  readonly journal?: Journal
  readonly openDataset?: (spec: RunSpec['dataset']) => Dataset
  readonly now?: () => number
}

export interface RunningServer {
  readonly url: string
  /** The operator token. */
  readonly token: string
  readonly trustKey: string
  readonly runs: Runs
  close(): Promise<void>
}

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  setFlagsFromString(HEAP_GROWTH)
  const log = options.log ?? pino({ level: 'silent' })
  const now = options.now ?? Date.now
  const broken = options.onBroken ?? ((err: Error) => log.fatal({ err }, 'nothing more is accepted: end the process'))
  makeDataFolder(options.dataFolder)
  const journal =
    options.journal ??
    (await openThreadJournal(join(options.dataFolder, 'journal.sqlite'), {
      onFault: (error) =>
        log.warn({ error: error.message }, 'SQLite or a checkpoint could not be written; nothing of it is lost'),
      onBroken: broken,
    }))
  const token = operatorToken(options.dataFolder)
  const trustKey = randomBytes(24).toString('hex')
  const events = new Events()
  let volunteers: Volunteers | null = null
  const runs = new Runs({
    journal,
    openDataset: options.openDataset ?? openDataset,
    blob: (bytes) => ({ hash: createHash('sha256').update(bytes).digest('hex'), bytes }),
    boot: randomBytes(4).toString('hex'),
    listener: {
      work: () => volunteers?.work(),
      broken,
      event: (event) => events.send(event),
      warn: (message, details) => log.warn(details, message),
    },
  })
  try {
    runs.recover(now())
  } catch (error) {
    // Whoever mends the folder finds it free.
    journal.close()
    throw error
  }

  let registry: Registry | null = null
  const app = await openHttp({
    runs,
    events,
    token,
    now,
    log,
    pagesFolder: options.pagesFolder ?? fileURLToPath(new URL('../dist', import.meta.url)),
    registry: () => registry!,
  })
  const io = new Server(app.server, {
    parser,
    transports: ['websocket'],
    perMessageDeflate: false,
    httpCompression: false,
    serveClient: false,
    maxHttpBufferSize: MAX_FRAME_BYTES,
    pingInterval: PING_INTERVAL_MS,
    pingTimeout: PING_TIMEOUT_MS,
    // A volunteer computes for whatever page it stands on; it carries no cookie and no operator's rights.
    cors: { origin: '*' },
  })
  volunteers = new Volunteers(io, {
    runs,
    identities: new Identities(journal),
    trustKey,
    blobAddress: options.blobAddress ?? null,
    now,
    log,
  })
  registry = openMetrics(runs, volunteers, now)

  const timer = setInterval(() => {
    const at = now()
    runs.expire(at)
    volunteers.tick(at)
    events.tick(at)
    if (events.size > 0) for (const run of runs.list()) events.send({ type: 'run', run: run.detail(at) })
  }, TICK_MS)

  try {
    await listen(app, options.port, options.host)
  } catch (error) {
    clearInterval(timer)
    journal.close()
    throw error
  }
  const { port } = app.server.address() as AddressInfo
  const url = `http://localhost:${port}`
  const own = options.ownVolunteer === false ? null : new OwnVolunteer(url, trustKey, log)
  log.info({ port, runs: runs.list().length }, 'coordinator up')

  return {
    url,
    token,
    trustKey,
    runs,
    async close() {
      clearInterval(timer)
      await own?.close()
      events.close()
      await io.close()
      await app.close()
      runs.close()
      journal.close()
      log.info('coordinator down')
    },
  }
}

/** On every address of this machine, IPv6 too where it has it, unless a host is named. */
async function listen(app: FastifyInstance, port: number, host?: string): Promise<void> {
  try {
    await app.listen({ port, host: host ?? '::' })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (host !== undefined || (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL')) throw error
    await app.listen({ port, host: '0.0.0.0' })
  }
}

function makeDataFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true })
  } catch (cause) {
    const { message } = cause as Error
    throw new StorageError('failed', `cannot keep runs in ${folder}, expected a folder to write to: ${message}`, {
      cause,
    })
  }
}

/** The operator's token, made once and kept in the data folder, readable by its owner only. */
function operatorToken(folder: string): string {
  const path = join(folder, 'operator-token')
  const kept = existsSync(path) ? readFileSync(path, 'utf8').trim() : ''
  // What a crash or a full disk left half written is no token.
  if (kept.length >= TOKEN_MIN) return kept
  const token = randomBytes(24).toString('hex')
  writeFileSync(`${path}.new`, `${token}\n`, { mode: 0o600, flush: true })
  renameSync(`${path}.new`, path)
  return token
}
