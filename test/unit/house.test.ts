/**
 * The rules of the house: who may import whom (DESIGN §4), which code is pure, and how long a file may be. A rule
 * that no test holds is a wish.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const LINES_MAX = 600

interface Source {
  path: string
  text: string
  /** Module names as written. */
  imports: string[]
  /** Those that are files of ours, as paths from the root. */
  files: string[]
}

function sources(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => /\.tsx?$/.test(path) && !path.includes('/assembly/') && !path.endsWith('kernels/wasm.ts'))
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8')
      const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(([, name]) => name)
      const files = imports
        .filter((name) => name.startsWith('.'))
        .map((name) => relative(root, join(root, dirname(path), name)))
      return { path, text, imports, files }
    })
}

const shared = sources('shared')
const coordinator = sources('coordinator')
const client = sources('client')

/** Rooms of the coordinator from top to bottom: a room imports from itself and from below. */
const FLOORS = [
  ['main.ts', 'train.ts', 'demo-run.ts'],
  ['server.ts', 'own-volunteer.ts'],
  ['gateway'],
  ['pictures'],
  ['run'],
  ['strategies', 'parameters', 'journal', 'datasets'],
]
const floorOf = (path: string) => {
  const room = path.split('/')[1]
  const floor = FLOORS.findIndex((rooms) => rooms.includes(room))
  if (floor < 0) throw new Error(`${path} is in no room that FLOORS knows`)
  return floor
}

const offenders = (files: Source[], offends: (source: Source) => string[]) =>
  files.flatMap((source) => offends(source).map((what) => `${source.path} → ${what}`))

describe('who may import whom', () => {
  test('shared imports nothing outside shared, zod aside', () => {
    expect(
      offenders(shared, ({ imports, files }) => [
        ...files.filter((file) => !file.startsWith('shared/')),
        ...imports.filter((name) => !name.startsWith('.') && name !== 'zod'),
      ]),
    ).toEqual([])
  })

  test('the coordinator imports shared and itself, never the client', () => {
    expect(
      offenders(coordinator, ({ files }) => files.filter((file) => !/^(shared|coordinator)\//.test(file))),
    ).toEqual([])
  })

  test('the client imports shared and itself, and the runs that come with the project, never the coordinator', () => {
    expect(
      offenders(client, ({ files }) => files.filter((file) => !/^(shared\/|client\/|runs\/[^/]+\.json$)/.test(file))),
    ).toEqual([])
  })

  test('inside the coordinator arrows go only down', () => {
    expect(
      offenders(coordinator, ({ path, files }) =>
        files.filter((file) => file.startsWith('coordinator/') && floorOf(file) < floorOf(path)),
      ),
    ).toEqual([])
  })

  test('only client/volunteer/compute imports tfjs', () => {
    const others = [...shared, ...coordinator, ...client].filter(
      ({ path }) => !path.startsWith('client/volunteer/compute/'),
    )
    expect(offenders(others, ({ imports }) => imports.filter((name) => name.startsWith('@tensorflow/')))).toEqual([])
  })
})

describe('what is pure', () => {
  const core = coordinator.filter(({ path }) => /^coordinator\/(run|strategies|parameters)\//.test(path))

  test('the run core and shared import no Node API', () => {
    expect(
      offenders([...core, ...shared], ({ imports }) => imports.filter((name) => name.startsWith('node:'))),
    ).toEqual([])
  })

  test('the run core and shared read no clock, draw no randomness and start no timer', () => {
    const impure = /\b(Date\.now|performance\.now|Math\.random|setTimeout|setInterval|setImmediate|process\.)/g
    expect(offenders([...core, ...shared], ({ text }) => text.match(impure) ?? [])).toEqual([])
  })

  test('the environment is read in main.ts and in the headless volunteer only', () => {
    const elsewhere = [...coordinator, ...client].filter(
      ({ path }) => path !== 'coordinator/main.ts' && !path.startsWith('client/volunteer/headless'),
    )
    expect(offenders(elsewhere, ({ text }) => text.match(/process\.env\b/g) ?? [])).toEqual([])
  })
})

test('every spec of runs/ is named in the README, which names no other', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const named = new Set([...readme.matchAll(/\b(?:runs\/)?([a-z0-9-]+\.json)\b/g)].map(([, name]) => name))
  const files = readdirSync(join(root, 'runs'))
  expect(files.filter((file) => !named.has(file))).toEqual([])
  const others = ['model.json', 'package.json', 'tsconfig.json']
  expect([...named].filter((name) => !files.includes(name) && !others.includes(name))).toEqual([])
})

test(`no file is longer than ${LINES_MAX} lines`, () => {
  const lines = ({ text }: Source) => text.split('\n').length
  expect(
    [...shared, ...coordinator, ...client, ...sources('test')].filter((s) => lines(s) > LINES_MAX).map((s) => s.path),
  ).toEqual([])
})

test('every numbered rule of SPEC.md is held by a test that carries its number', () => {
  const rules = [...readFileSync(join(root, 'SPEC.md'), 'utf8').matchAll(/^- \[([A-Z]\d+)\]/gm)].map(([, rule]) => rule)
  const tests = sources('test').map(({ text }) => text)
  expect(new Set(rules).size).toBe(rules.length)
  expect(rules.filter((rule) => !tests.some((text) => text.includes(`[${rule}]`)))).toEqual([])
})
