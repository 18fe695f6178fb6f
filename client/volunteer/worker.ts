/**
 * The browser's Web Worker: the volunteer, driven by a page as worker-messages.ts says. Everything that computes or
 * connects is in here, so a busy device never makes the page stutter.
 */
import { openBlobCache } from './blobs.ts'
import { chooseEngine, openEngine } from './compute/engines.ts'
import { Volunteer } from './volunteer.ts'
import type { PageMessage, StartMessage, VolunteerStatus, WorkerMessage } from './worker-messages.ts'

/** A page that shows numbers to a person needs no more than a few of them a second. */
const STATUS_EVERY_MS = 250

/** tfjs' WebAssembly files, where the build puts them (vite.config.ts). */
const wasmPath = `${self.location.origin}/assets/tfjs/`

const page = self as unknown as DedicatedWorkerGlobalScope
let volunteer: Volunteer | null = null
let started = false
let stopped = false

page.onmessage = ({ data }: MessageEvent<PageMessage>) => {
  if (data.type === 'stop') {
    stopped = true
    volunteer?.stop()
  } else if (!started) {
    started = true
    contribute(data).catch((error) => page.postMessage(failure(error)))
  }
}

async function contribute({ address, token, backend, run }: StartMessage): Promise<void> {
  const show = atMostOften(STATUS_EVERY_MS)
  volunteer = new Volunteer({
    address,
    token,
    run,
    cache: await openBlobCache(),
    openEngine: () => (backend === null ? chooseEngine(undefined, { wasmPath }) : openEngine(backend, { wasmPath })),
    onStatus: show,
  })
  // A stop that came while the cache was opened found nobody to stop.
  if (stopped) volunteer.stop()
  await volunteer.run()
}

/** A last status for what went wrong outside the volunteer, which reports its own troubles. */
function failure(error: unknown): WorkerMessage {
  return {
    type: 'status',
    status: {
      state: 'failed',
      reason: error instanceof Error ? error.message : String(error),
      backend: null,
      device: null,
      examples: 0,
      updatesAccepted: 0,
      updatesRefused: 0,
      examplesPerSecond: null,
      progress: null,
      token: null,
    },
  }
}

/** Posts the newest status now and then; a last one at once. */
function atMostOften(everyMs: number): (status: VolunteerStatus) => void {
  let newest: VolunteerStatus
  let timer: ReturnType<typeof setTimeout> | undefined
  let postedAt = Number.NEGATIVE_INFINITY
  const post = () => {
    clearTimeout(timer)
    timer = undefined
    postedAt = performance.now()
    page.postMessage({ type: 'status', status: newest } satisfies WorkerMessage)
  }
  return (status) => {
    newest = status
    const last = status.state === 'stopped' || status.state === 'failed'
    const waitMs = postedAt + everyMs - performance.now()
    if (last || waitMs <= 0) post()
    else timer ??= setTimeout(post, waitMs)
  }
}
