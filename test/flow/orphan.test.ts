/** Volunteers that `npm run train` has started end when it does, however it does: nobody else would ever end them. */
import { execFileSync } from 'node:child_process'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { newFolder, removeFolders, SMALL, until } from '../support/coordinator.ts'
import { startProgram } from '../support/processes.ts'

/** What a test leaves running when it fails. */
const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})
afterAll(removeFolders)

/** Processes of this machine; one that is dead and not yet fetched by its parent is none. */
function processes(): { pid: number; parent: number; command: string }[] {
  const lines = execFileSync('ps', ['-A', '-ww', '-o', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' }).split('\n')
  return lines.flatMap((line) => {
    const [, pid, parent, state, command] = line.match(/^ *(\d+) +(\d+) +(\S+) +(.*)$/) ?? []
    return pid === undefined || state.startsWith('Z') ? [] : [{ pid: Number(pid), parent: Number(parent), command }]
  })
}

function train(volunteers: number) {
  const data = newFolder()
  const file = join(newFolder(), 'spec.json')
  writeFileSync(file, JSON.stringify({ ...SMALL, journal: 'everything' }))
  const program = startProgram('coordinator/train.ts', [
    ...[file, '--volunteers', String(volunteers), '--pace', '300', '--json', '--data', data],
  ])
  const children = () =>
    processes()
      .filter(({ parent, command }) => parent === program.child.pid && command.includes('volunteer/headless.ts'))
      .map(({ pid }) => pid)
  ends.push(async () => {
    const left = children()
    await program.end()
    for (const pid of left) kill(pid)
  })
  const journalBytes = () => statSync(join(data, 'journal.sqlite'), { throwIfNoEntry: false })?.size ?? 0
  return { program, children, journalBytes }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** They are gone; one that is not is killed when the test is over. */
async function gone(pids: number[]): Promise<void> {
  ends.push(() => pids.forEach(kill))
  await until('its volunteers have ended', () => !processes().some(({ pid }) => pids.includes(pid)))
}

test('volunteers at work end when the trainer is killed', async () => {
  const { program, children, journalBytes } = train(2)
  await until('updates are in the journal', () => journalBytes() > 500_000)
  const pids = children()
  expect(pids).toHaveLength(2)
  program.child.kill('SIGKILL')
  await gone(pids)
})

test('volunteers that are still starting end when the trainer is killed', async () => {
  const { program, children } = train(2)
  let pids: number[] = []
  await until('they are there', () => {
    pids = children()
    return pids.length === 2
  })
  program.child.kill('SIGKILL')
  await gone(pids)
})
