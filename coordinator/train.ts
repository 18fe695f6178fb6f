/**
 * `npm run train -- <spec.json>`: a coordinator on a free port, local volunteers, a progress bar, and the model with
 * its pictures in a folder when the spec's stop rule is met. Ctrl-C leaves a run that the same command with the same
 * --data goes on with.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { cac } from 'cac'
import { SingleBar } from 'cli-progress'
import type { RunDetail, TestPoint } from '../shared/api.ts'
import { classifies } from '../shared/models.ts'
import { parseRunSpec, type RunSpec, type SpecProblem } from '../shared/run-spec.ts'
import { Unfit } from './datasets/unfit.ts'
import { picturesOf } from './pictures/pictures.ts'
import { MODEL_FILES } from './run/model-files.ts'
import type { Run } from './run/run.ts'
import type { Runs } from './run/runs.ts'
import { type RunningServer, startServer } from './server.ts'

interface Options {
  volunteers: number
  pace?: number
  backend: string
  data?: string
  json?: boolean
}

/** Looking for the end so often costs nothing; the volunteers compute in processes of their own. */
const REFRESH_MS = 250
const VOLUNTEER = fileURLToPath(new URL('../client/volunteer/headless.ts', import.meta.url))

const cli = cac('npm run train --')
cli
  .command('<spec>', 'Train what a RunSpec file says, on this machine')
  .option('--volunteers <n>', 'Local volunteers', { default: Math.max(1, availableParallelism() - 1) })
  .option('--pace <examples>', 'Examples per second of each volunteer, at most')
  .option('--backend <name>', "The volunteers' backend: wasm, cpu, webgpu", { default: 'wasm' })
  .option('--data <folder>', 'Where the run lives; a run that is there already goes on')
  .option('--json', 'Print one JSON object as the last line')
  .action((file: string, options: Options) => train(file, options))
cli.help()
cli.parse(process.argv, { run: false })
if (cli.matchedCommand === undefined && !cli.options.help) {
  cli.outputHelp()
  process.exit(2)
}
Promise.resolve(cli.runMatchedCommand()).catch((error: unknown) => {
  fail(error instanceof Error ? error.message : String(error))
})

async function train(file: string, options: Options): Promise<void> {
  const spec = readSpec(file)
  if (!Number.isInteger(options.volunteers) || options.volunteers < 1)
    fail(`--volunteers: expected a whole number from 1 on, got ${options.volunteers}`)
  const started = new Date().toISOString().replace(/[:.]/g, '-')
  const folder = resolve(options.data ?? join('data', `${basename(file, '.json')}-${started}`))
  const onBroken = (error: Error) => fail(`${error.message}; what was acknowledged is safe, run the same command again`)
  const server = await startServer({ port: 0, dataFolder: folder, onBroken })
  const run = resumeOrCreate(server, spec, file)
  const volunteers = startVolunteers(server, run, options)
  let stopping = false
  const stop = async () => {
    stopping = true
    for (const volunteer of volunteers) volunteer.kill('SIGTERM')
    await server.close()
  }
  const interrupted = (code: number) => () => {
    if (stopping) process.exit(code)
    bar.stop()
    console.error(`\nInterrupted. To go on: npm run train -- ${file} ${said(options)} --data ${folder}`)
    void stop().then(() => process.exit(code))
  }
  process.on('SIGINT', interrupted(130))
  process.on('SIGTERM', interrupted(143))

  const bar = new SingleBar({
    format: '{bar} {stage}{unit} {epoch}/{epochs}  loss {loss}  {tested}  {speed} examples/s  ETA {eta_formatted}',
    etaBuffer: 200,
    hideCursor: true,
    noTTYOutput: !options.json,
    notTTYSchedule: 10_000,
    stream: process.stderr,
  })
  bar.start(1, run.detail(Date.now()).progress, shown(run))
  await new Promise<void>((done, failed) => {
    let left = volunteers.length
    for (const volunteer of volunteers) {
      volunteer.once('exit', () => {
        if (--left > 0 || stopping) return
        bar.stop()
        void stop().then(() => failed(new Error('every volunteer ended by itself; they say why above')))
      })
    }
    const timer = setInterval(() => {
      bar.update(run.detail(Date.now()).progress, shown(run))
      if (!run.over || stopping) return
      clearInterval(timer)
      done()
    }, REFRESH_MS)
  })
  bar.stop()
  const detail = run.detail(Date.now())
  const target = join(folder, 'model')
  mkdirSync(target, { recursive: true })
  const modelPath = writeModel(server.runs, run, target)
  const pictures = writePictures(server.runs, run, target)
  const tested = testedWords(run) ?? 'not tested'
  await stop()
  if (options.json === true) reportJson(detail, modelPath, pictures)
  else report(detail, tested, modelPath, pictures)
  if (detail.state !== 'finished') fail(`the run ${detail.state}: ${detail.reason}`)
  process.exit(0)
}

function readSpec(file: string): RunSpec {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    fail(code === undefined ? `${file} is not a RunSpec: ${message}` : `cannot read ${file}: ${message}`)
  }
  const parsed = parseRunSpec(value)
  return parsed.ok ? parsed.spec : cannotRun(file, parsed.problems)
}

function cannotRun(file: string, problems: SpecProblem[]): never {
  fail(`${file} cannot run:\n${problems.map(({ field, message }) => `  ${field}: ${message}`).join('\n')}`)
}

/** The options that were given, to be given again. */
function said({ volunteers, backend, pace, json }: Options): string {
  const words = [`--volunteers ${volunteers}`, `--backend ${backend}`]
  if (pace !== undefined) words.push(`--pace ${pace}`)
  if (json) words.push('--json')
  return words.join(' ')
}

/** The run of this spec that the folder holds, going on where it was; else a new one. */
function resumeOrCreate({ runs }: RunningServer, spec: RunSpec, file: string): Run {
  const now = Date.now()
  const found = runs.list().find((run) => isDeepStrictEqual(run.spec, spec) && run.state !== 'failed')
  if (found === undefined) {
    try {
      return runs.get(runs.create(`r${now.toString(36)}`, spec, now).run)!
    } catch (error) {
      if (error instanceof Unfit) cannotRun(file, [error])
      throw error
    }
  }
  const outcome = found.state === 'paused' ? runs.move(found, 'running', null, now) : found.detail(now)
  if (typeof outcome === 'string') fail(outcome)
  console.error(`Going on with run ${found.id} at epoch ${outcome.epoch.toFixed(2)}.`)
  return found
}

function startVolunteers(server: RunningServer, run: Run, { volunteers, pace, backend }: Options): ChildProcess[] {
  const paced = pace === undefined ? [] : ['--pace', String(pace)]
  return Array.from({ length: volunteers }, () =>
    spawn(
      process.execPath,
      ['--import', 'tsx', VOLUNTEER, server.url, '--backend', backend, '--run', run.id, ...paced],
      {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      },
    ),
  )
}

function shown(run: Run): object {
  const { stage, stages, epoch, epochs, trainLoss, examplesPerSecond } = run.detail(Date.now())
  const { index, strategy } = run.history.stage
  return {
    stage: stages.length === 1 ? '' : `stage ${index + 1}/${stages.length} ${stage}, `,
    unit: strategy.iterations === undefined ? 'epoch' : 'iteration',
    epoch: epoch.toFixed(2),
    epochs,
    loss: trainLoss?.toFixed(4) ?? '-',
    tested: testedWords(run) ?? 'not tested yet',
    speed: Math.round(examplesPerSecond),
  }
}

/** What the last test of the stage found, in its objective's own measure; null before the first. */
function testedWords({ history: { series, stage } }: Run): string | null {
  const last = series.test.at(-1)
  if (last === undefined || last.stage !== stage.plan.name) return null
  switch (stage.model.objective.kind) {
    case 'classify':
      return `test ${right(last)}`
    case 'reconstruct':
      return `test squared error ${last.measure?.toFixed(3)}`
    case 'contrastive':
      return `test reconstruction error ${last.loss.toFixed(3)}${classifies(stage.model.objective) ? `, ${right(last)}` : ''}`
  }
}

const right = ({ accuracy }: TestPoint) => `${(100 * accuracy).toFixed(2)} % right`

/** Every file of the model that the run has; the path of the one that tfjs loads. */
function writeModel(runs: Runs, run: Run, target: string): string {
  for (const { name, bytesOf } of MODEL_FILES) {
    const bytes = bytesOf(runs.lastGood(run))
    if (bytes !== null) writeFileSync(join(target, name), bytes)
  }
  return join(target, 'model.json')
}

/** What can be seen of the run, as PNG files; their paths. */
function writePictures(runs: Runs, run: Run, target: string): string[] {
  return picturesOf(runs.lastGood(run)).map(({ name, draw }) => {
    const path = join(target, `${name}.png`)
    writeFileSync(path, draw().png())
    return path
  })
}

function reportJson(detail: RunDetail, modelPath: string, pictures: string[]): void {
  const {
    run,
    state,
    reason,
    testAccuracy,
    testLoss,
    testMeasure,
    trainLoss,
    epoch: epochs,
    versions,
    examples,
  } = detail
  const { updatesAccepted, updatesRefused, meanStaleness, bytesUp, bytesDown, seconds } = detail
  const examplesPerSecond = seconds === 0 ? 0 : examples / seconds
  const counts = { updatesAccepted, updatesRefused, meanStaleness, bytesUp, bytesDown, seconds, examplesPerSecond }
  const measured = { testAccuracy, testLoss, testMeasure, trainLoss, epochs, versions, examples }
  console.log(JSON.stringify({ run, state, reason, ...measured, ...counts, modelPath, pictures }))
}

function report({ state, examples, seconds, versions }: RunDetail, tested: string, model: string, pictures: string[]) {
  console.log(`\n${state}: ${tested}, ${examples} examples in ${seconds.toFixed(0)} s, ${versions} versions`)
  console.log(`model: ${model}`)
  if (pictures.length > 0) console.log(`beside it: ${pictures.map((path) => basename(path)).join(' ')}`)
}

function fail(message: string): never {
  console.error(`crowdgrad: ${message}`)
  process.exit(1)
}
