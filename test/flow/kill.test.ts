/**
 * kill -9 at random instants while volunteers in other processes train: the coordinator is started again on the same
 * folder and port, the volunteers come back by themselves, and in the end nothing was lost, nothing counted twice, and
 * the parameters have the bits of the journal folded without any disturbance.
 */
import { afterAll, expect, test } from 'vitest'
import type { RunDetail, VolunteerDetail } from '../../shared/api.ts'
import { Random, Stream } from '../../shared/random.ts'
import { newFolder, operatorRequest, removeFolders, SMALL, until } from '../support/coordinator.ts'
import { countsOf, offlineFold } from '../support/offline-fold.ts'
import { type Program, startProgram } from '../support/processes.ts'
import { type Acknowledged, SyntheticVolunteer, UnexpectedRefusal } from '../support/synthetic-volunteer.ts'

const SEED = 20261123
/** Kills while it trains, and kills while it starts and folds its journal. */
const KILLS = 11
const KILLS_AT_START = 3
/** After so many of them it waits for the real volunteer, whose back-off doubles with every attempt. */
const KILLS_AWAITED = 1
const EPOCHS = 40
const EXAMPLES = 600

const folder = newFolder()
const programs: Program[] = []
afterAll(async () => {
  await Promise.all(programs.map((program) => program.end()))
  removeFolders()
})

const launch = (file: string, args: string[]) => {
  const program = startProgram(file, args)
  programs.push(program)
  return program
}

const isReal = ({ device, updatesAccepted }: VolunteerDetail) => device !== 'synthetic' && updatesAccepted > 0

/** Trains, comes back whenever the coordinator does, and remembers every acknowledgement. */
class Recorder {
  readonly acknowledged: Acknowledged[] = []
  /** Refusals by code. */
  readonly refused = new Map<string, number>()
  readonly identities = new Set<string>()
  private stopping = false
  private current: SyntheticVolunteer | null = null
  readonly done: Promise<void>

  constructor(url: string, run: string, instance: string) {
    this.done = this.train(url, run, instance)
  }

  stop(): Promise<void> {
    this.stopping = true
    this.current?.close()
    return this.done
  }

  private async train(url: string, run: string, instance: string): Promise<void> {
    let token: string | undefined
    while (!this.stopping) {
      try {
        const volunteer = await SyntheticVolunteer.join(url, { run, instance, token })
        this.current = volunteer
        token = volunteer.welcome.token
        this.identities.add(volunteer.welcome.volunteer)
        try {
          while (volunteer.socket.connected && !this.stopping) await this.lease(volunteer)
        } finally {
          this.acknowledged.push(...volunteer.acknowledged)
          volunteer.close()
        }
      } catch (error) {
        if (error instanceof UnexpectedRefusal) throw error
        // Gone, or not yet back.
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }

  private async lease(volunteer: SyntheticVolunteer): Promise<void> {
    const { lease, start } = await volunteer.begin()
    const reply = await volunteer.send(lease, start)
    if (!reply.ok) this.refused.set(reply.code, (this.refused.get(reply.code) ?? 0) + 1)
  }
}

test('[L7] killed at any instant and started again, it loses nothing, counts nothing twice, and has the same bits [J1] [J2] [E1] [L3] [G4]', async () => {
  const random = new Random(SEED, Stream.sample)
  let draws = 0
  /** A random time from an interval, milliseconds. */
  const wait = (from: number, to: number) =>
    new Promise((resolve) => setTimeout(resolve, from + (to - from) * random.uniform(draws++)))

  let port = '0'
  const start = async () => {
    let program = launch('test/support/coordinator-process.ts', [port, folder])
    // On a loaded machine Node or tsx may hang before the first line of ours is run: that is not what is tested here.
    const loading = await program.printed(/^loading$/m, 10_000).catch(() => null)
    if (loading === null) {
      await program.end()
      program = launch('test/support/coordinator-process.ts', [port, folder])
    }
    const [, url, token] = await program.printed(/^up (\S+) (\S+)$/m)
    port = new URL(url).port
    return { program, url, token }
  }
  let coordinator = await start()
  const { url } = coordinator
  const detail = async (): Promise<RunDetail> =>
    (await operatorRequest(coordinator, 'GET', `/api/runs/${run}`)).json() as Promise<RunDetail>
  // The real volunteer is slower by far than those that compute nothing.
  const strategy = { ...SMALL.strategy, maxStaleness: 10_000 }
  const spec = { ...SMALL, strategy, stop: { epochs: EPOCHS }, journal: 'everything', checkpointEvery: 50 }
  const { run } = (await (await operatorRequest(coordinator, 'POST', '/api/runs', spec)).json()) as RunDetail

  const recorders = ['aaaaaaaa', 'bbbbbbbb'].map((instance) => new Recorder(url, run, instance))
  launch('client/volunteer/headless.ts', [url, '--backend', 'wasm', '--run', run, '--pace', '300'])
  await until('everybody trains', async () => {
    const { volunteers } = await detail()
    return volunteers.length === 3 && volunteers.every(({ updatesAccepted }) => updatesAccepted > 0)
  })

  for (let kill = 0; kill < KILLS; kill++) {
    await wait(10, 400)
    await coordinator.program.end('SIGKILL')
    if (kill % Math.ceil(KILLS / KILLS_AT_START) === 1) {
      const early = launch('test/support/coordinator-process.ts', [port, folder])
      await wait(200, 1_200)
      await early.end('SIGKILL')
    }
    coordinator = await start()
    const before = (await detail()).updatesAccepted
    await until('training goes on', async () => {
      const { updatesAccepted, volunteers } = await detail()
      return updatesAccepted > before && (kill >= KILLS_AWAITED || volunteers.some(isReal))
    })
  }
  expect((await detail()).epoch, 'it was killed while it trained, to the last').toBeLessThan(EPOCHS)

  await until('every example is counted', async () => (await detail()).epoch === EPOCHS, 40_000)
  const model = await (await operatorRequest(coordinator, 'GET', `/api/runs/${run}/model.safetensors`)).arrayBuffer()
  await Promise.all(recorders.map((recorder) => recorder.stop()))
  await coordinator.program.end('SIGKILL')

  const { bits, updates, history } = offlineFold(folder, run)
  const header = 8 + Number(Buffer.from(model).readBigUInt64LE(0))
  expect(Buffer.from(model).subarray(header).equals(bits), 'the parameters have the bits of the fold').toBe(true)

  const times = new Map<string, number>()
  for (const { lease } of updates) times.set(lease, (times.get(lease) ?? 0) + 1)
  expect(Math.max(...times.values()), 'a lease is in the journal at most once').toBe(1)
  for (const { acknowledged, refused, identities } of recorders) {
    expect(acknowledged.length).toBeGreaterThan(100)
    expect(acknowledged.filter(({ lease }) => !times.has(lease))).toEqual([])
    expect(identities.size, 'it came back as itself').toBe(1)
    // Computed for a coordinator that is dead, and nothing else.
    expect([...refused.keys()].filter((code) => code !== 'lease-unknown')).toEqual([])
  }

  const counted = countsOf(updates, EXAMPLES)
  expect([...counted.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: EPOCHS }, (_, epoch) => epoch))
  for (const [epoch, counts] of counted) expect([epoch, ...new Set(counts)]).toEqual([epoch, 1])
  expect(history.counts.examples).toBe(EPOCHS * EXAMPLES)

  const boots = (volunteer: RegExp) =>
    new Set(updates.filter((update) => volunteer.test(update.volunteer)).map(({ lease }) => lease.split('.')[1]))
  expect(boots(/-(aaaaaaaa|bbbbbbbb)$/).size).toBe(KILLS + 1)
  expect(boots(/-(?!aaaaaaaa$|bbbbbbbb$)/).size, 'the real one came back by itself').toBeGreaterThan(KILLS_AWAITED)
}, 120_000)
