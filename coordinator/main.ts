/**
 * `npm start`: the coordinator for real. Its options are environment variables, read here.
 *
 *     PORT             the port, 8080
 *     CROWDGRAD_DATA   the data folder, ./data
 *     CROWDGRAD_BLOBS  address of a CDN that serves /blobs
 *     CROWDGRAD_LOG    log level: trace debug info warn error silent (warn)
 */
import { resolve } from 'node:path'
import { pino } from 'pino'
import { Unfit } from './datasets/unfit.ts'
import { demoRun } from './demo-run.ts'
import { StorageError } from './journal/journal.ts'
import { startServer } from './server.ts'

const { PORT = '8080', CROWDGRAD_DATA = './data', CROWDGRAD_BLOBS, CROWDGRAD_LOG = 'warn' } = process.env
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

async function main(): Promise<void> {
  const port = Number(PORT)
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    fail(`PORT is "${PORT}"; expected a whole number from 0 to 65535`)
  if (!LOG_LEVELS.includes(CROWDGRAD_LOG))
    fail(`CROWDGRAD_LOG is "${CROWDGRAD_LOG}"; expected one of ${LOG_LEVELS.join(', ')}`)
  const server = await startServer({
    port,
    dataFolder: resolve(CROWDGRAD_DATA),
    blobAddress: CROWDGRAD_BLOBS ?? null,
    onBroken: (error) => fail(`${error.message}; what was acknowledged is safe, start again`),
    log: pino({ level: CROWDGRAD_LOG }, pino.destination({ fd: 2, sync: true })),
  })
  if (server.runs.list().length === 0) demoRun(server.runs, Date.now())
  console.log(`
  Crowdgrad is up.

    contribute   ${server.url}/
    console      ${server.url}/console?token=${server.token}
    embed demo   ${server.url}/demo
`)
  let closing = false
  const close = async (signal: string) => {
    if (closing) process.exit(1)
    closing = true
    console.log(`${signal}: writing checkpoints and closing; once more ends at once`)
    await server.close()
    process.exit(0)
  }
  process.on('SIGINT', () => void close('SIGINT'))
  process.on('SIGTERM', () => void close('SIGTERM'))
}

function fail(message: string): never {
  console.error(`crowdgrad: ${message}`)
  process.exit(1)
}

main().catch((error: NodeJS.ErrnoException) => {
  if (error.code === 'EADDRINUSE')
    fail(`port ${PORT} is taken by another program; choose another one: PORT=8081 npm start`)
  if (error.code === 'EACCES') fail(`port ${PORT} or the folder ${CROWDGRAD_DATA} may not be used: ${error.message}`)
  if (error instanceof StorageError || error instanceof Unfit) fail(error.message)
  throw error
})
