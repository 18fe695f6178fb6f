/**
 * The coordinator's own, trusted volunteer: the same headless volunteer that anybody runs, in a worker thread, with
 * the key that makes it trusted. It gets the evaluations. When it dies it is started again.
 */
import { Worker } from 'node:worker_threads'
import type { Logger } from 'pino'

const RESTART_MS = 2_000
/** How long it may take to give its lease back when it is told to stop. */
const STOP_MS = 3_000

export class OwnVolunteer {
  private readonly url: string
  private readonly trustKey: string
  private readonly log: Logger
  private worker: Worker | null = null
  private restart: NodeJS.Timeout | null = null
  private closed = false

  constructor(url: string, trustKey: string, log: Logger) {
    this.url = url
    this.trustKey = trustKey
    this.log = log
    this.start()
  }

  async close(): Promise<void> {
    this.closed = true
    if (this.restart !== null) clearTimeout(this.restart)
    const { worker } = this
    if (worker === null) return
    const gone = new Promise((resolve) => worker.once('exit', resolve))
    worker.postMessage({ type: 'stop' })
    const late = setTimeout(() => void worker.terminate(), STOP_MS)
    await gone
    clearTimeout(late)
  }

  private start(): void {
    const entry = new URL('../client/volunteer/headless.ts', import.meta.url).href
    const worker = new Worker(new URL('./thread.mjs', import.meta.url), {
      workerData: { entry, url: this.url, trustKey: this.trustKey, backend: 'wasm' },
    })
    this.worker = worker
    worker.on('error', (error) => this.log.error({ err: error }, 'the own volunteer failed'))
    worker.on('exit', (code) => {
      this.worker = null
      if (this.closed) return
      this.log.warn({ code }, 'the own volunteer ended; it is started again')
      this.restart = setTimeout(() => this.start(), RESTART_MS)
    })
  }
}
