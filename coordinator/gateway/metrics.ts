/** Prometheus metrics: the process' own (prom-client's defaults, event-loop delay among them) and the grid's. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import type { Runs } from '../run/runs.ts'
import type { Volunteers } from './volunteers.ts'

export function openMetrics(runs: Runs, volunteers: Volunteers, now: () => number): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const perRun = (
    name: string,
    help: string,
    read: (detail: ReturnType<ReturnType<Runs['list']>[number]['detail']>) => number | null,
  ) => {
    const values = (set: (labels: { run: string }, value: number) => void) => {
      for (const run of runs.list()) {
        const value = read(run.detail(now()))
        if (value !== null) set({ run: run.id }, value)
      }
    }
    const settings = { name: `crowdgrad_run_${name}`, help, labelNames: ['run'], registers: [registry] }
    if (name.endsWith('_total')) {
      new Counter({
        ...settings,
        collect() {
          this.reset()
          values((labels, value) => this.inc(labels, value))
        },
      })
    } else {
      new Gauge({
        ...settings,
        collect() {
          this.reset()
          values((labels, value) => this.set(labels, value))
        },
      })
    }
  }
  perRun('examples_total', 'Examples whose update was accepted', ({ examples }) => examples)
  perRun('updates_accepted_total', 'Updates accepted', ({ updatesAccepted }) => updatesAccepted)
  perRun('updates_refused_total', 'Updates refused', ({ updatesRefused }) => updatesRefused)
  perRun('versions_total', 'Versions published', ({ versions }) => versions)
  perRun('bytes_up_total', 'Bytes of accepted updates', ({ bytesUp }) => bytesUp)
  perRun('bytes_down_total', 'Bytes of parameters, shards and models sent', ({ bytesDown }) => bytesDown)
  perRun('epoch', 'Passes over the training examples', ({ epoch }) => epoch)
  perRun('staleness_mean', 'Mean staleness of accepted updates, in versions', ({ meanStaleness }) => meanStaleness)
  perRun('train_loss', 'Mean loss of the last few updates', ({ trainLoss }) => trainLoss)
  perRun('test_accuracy', 'Accuracy on the test examples, 0..1', ({ testAccuracy }) => testAccuracy)
  perRun('running', '1 while the run is running', ({ state }) => (state === 'running' ? 1 : 0))
  new Gauge({
    name: 'crowdgrad_volunteers',
    help: 'Volunteers connected',
    registers: [registry],
    collect() {
      this.set(volunteers.connections)
    },
  })
  new Counter({
    name: 'crowdgrad_refusals_total',
    help: 'Refusals sent to volunteers, by code',
    labelNames: ['code'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [code, count] of volunteers.refusals) this.inc({ code }, count)
    },
  })
  new Gauge({
    name: 'crowdgrad_storage_ok',
    help: '1 while the journal can be written',
    registers: [registry],
    collect() {
      this.set(runs.storageFault === null ? 1 : 0)
    },
  })
  return registry
}
