/**
 * A volunteer without a browser, for servers, clusters and measurements:
 *
 *     npm run volunteer -- https://train.example.org --backend wasm
 *
 * It also starts as a worker thread (workerData: HeadlessOptions; it posts a StatusMessage at every change and stops at
 * a StopMessage). A trust key comes in the environment, never among the arguments, where everybody on the machine could
 * read it. Its identity lives in memory: a new process is a new volunteer.
 */
import { setFlagsFromString } from 'node:v8'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { cac } from 'cac'
import type { BackendName } from '../../shared/backends.ts'
import { MemoryBlobs } from './blobs.ts'
import { chooseEngine, openEngine } from './compute/engines.ts'
import { Volunteer } from './volunteer.ts'
import type { PageMessage, VolunteerStatus, WorkerMessage } from './worker-messages.ts'

interface HeadlessOptions {
  /** The coordinator's origin. */
  url: string
  backend?: BackendName | null
  trustKey?: string | null
  run?: string | null
  /** At most so many examples a second. */
  pace?: number | null
}

const BACKENDS: readonly BackendName[] = ['wasm', 'cpu', 'webgpu']
const SPEAK_EVERY_MS = 5_000
/** As in the coordinator's server.ts: buffers of a few megabytes are no reason to collect a small heap. */
const HEAP_GROWTH = '--heap-growing-percent=1000'

if (isMainThread) void main()
else if (parentPort && isHeadlessOptions(workerData)) void thread(parentPort, workerData)

function open(
  { url, backend, trustKey, run, pace }: HeadlessOptions,
  onStatus: (status: VolunteerStatus) => void,
): Volunteer {
  return new Volunteer({
    address: url,
    trustKey,
    run,
    pace,
    cache: new MemoryBlobs(),
    openEngine: async () => {
      if (backend === 'webgpu') return openEngine('webgpu', { gpu: await (await import('./compute/dawn.ts')).dawn() })
      return backend ? openEngine(backend) : chooseEngine('wasm')
    },
    onStatus,
  })
}

// ---- a worker thread --------------------------------------------------------------------------------------------

function isHeadlessOptions(value: unknown): value is HeadlessOptions {
  return typeof (value as HeadlessOptions | null)?.url === 'string'
}

async function thread(port: NonNullable<typeof parentPort>, options: HeadlessOptions): Promise<void> {
  const volunteer = open(options, (status) => port.postMessage({ type: 'status', status } satisfies WorkerMessage))
  port.on('message', (message: PageMessage) => {
    if (message.type === 'stop') volunteer.stop()
  })
  await volunteer.run()
  port.close()
}

// ---- the command line -------------------------------------------------------------------------------------------

async function main(): Promise<void> {
  setFlagsFromString(HEAP_GROWTH)
  const cli = cac('npm run volunteer --')
  cli
    .command('<url>', 'Contribute compute to the coordinator at this address, until Ctrl-C')
    .option('--backend <name>', `One of ${BACKENDS.join(', ')} (default: wasm, or what there is)`)
    .option('--pace <n>', 'At most so many examples a second, to measure with')
    .option('--run <id>', 'Work on this run only')
    .option('--trust-key-env <name>', 'The environment variable that holds the trust key', {
      default: 'CROWDGRAD_TRUST_KEY',
    })
    .action((url: string, given: Record<string, string | number | undefined>) => contribute(optionsOf(url, given)))
  cli.help()
  try {
    cli.parse(process.argv, { run: false })
    await cli.runMatchedCommand()
    if (!cli.matchedCommand && !cli.options.help)
      throw new Error('expected the address of a coordinator; --help tells more')
  } catch (error) {
    console.error((error as Error).message)
    process.exit(2)
  }
}

function optionsOf(url: string, given: Record<string, string | number | undefined>): HeadlessOptions {
  if (!/^https?:\/\//.test(url) || !URL.canParse(url))
    throw new Error(`expected an address like http://localhost:8080, got ${url}`)
  const backend = given.backend as BackendName | undefined
  if (backend !== undefined && !BACKENDS.includes(backend)) {
    throw new Error(`--backend: expected one of ${BACKENDS.join(', ')}, got ${backend}`)
  }
  const pace = given.pace === undefined ? null : Number(given.pace)
  if (pace !== null && !(pace > 0)) throw new Error(`--pace: expected examples a second above 0, got ${given.pace}`)
  const run = given.run === undefined ? null : String(given.run)
  return { url, backend: backend ?? null, pace, run, trustKey: process.env[String(given.trustKeyEnv)] || null }
}

async function contribute(options: HeadlessOptions): Promise<never> {
  let said = ''
  const say = (status: VolunteerStatus) => {
    const line = inWords(status, options.url)
    if (line !== said) (status.state === 'failed' ? console.error : console.log)(line)
    said = line
  }
  let joined = false
  const volunteer = open(options, (status) => {
    // Working and waiting take turns quickly: of those it speaks at its own pace.
    const steady = status.state === 'working' || status.state === 'waiting'
    if (!steady) say(status)
    else if (!joined) console.log(`joined ${options.url} with ${status.device}`)
    joined ||= steady
  })
  // Started by another program (npm run train): it ends when that one does, however it did.
  process.on('disconnect', () => volunteer.stop())
  // That may have been while this one was loading.
  if (process.connected === false) volunteer.stop()
  const speaking = setInterval(() => say(volunteer.status), SPEAK_EVERY_MS)
  const interrupted = () => {
    volunteer.stop()
    // Asked twice, it does not even say goodbye.
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, interrupted)
  const { state } = await volunteer.run()
  clearInterval(speaking)
  // A native device (Dawn) may keep the process from ending by itself.
  process.exit(state === 'failed' ? 1 : 0)
}

function inWords(status: VolunteerStatus, url: string): string {
  const { state, reason, examples, updatesAccepted, updatesRefused, examplesPerSecond, progress } = status
  const because = reason === null ? '' : `: ${reason}`
  const counts = [
    `${updatesAccepted} leases`,
    `${examples} examples`,
    ...(updatesRefused > 0 ? [`${updatesRefused} refused`] : []),
    ...(examplesPerSecond === null ? [] : [`${Math.round(examplesPerSecond)} examples/s`]),
  ].join(', ')
  switch (state) {
    case 'starting':
      return 'starting: testing the device'
    case 'connecting':
      return `connecting to ${url}${because}`
    case 'reconnecting':
      return `connection lost, trying again${because}`
    case 'waiting':
      return `waiting${because} (${counts})`
    case 'working': {
      if (progress === null) return `working: ${counts}`
      const accuracy = progress.accuracy === null ? '' : `, test accuracy ${(100 * progress.accuracy).toFixed(2)} %`
      return `working: ${counts} | ${progress.name}: epoch ${progress.epoch.toFixed(2)} of ${progress.epochs}${accuracy}`
    }
    case 'stopped':
      return `stopped: ${counts}`
    case 'failed':
      return `failed${because}`
  }
}
