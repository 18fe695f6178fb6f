/**
 * A coordinator in a process of its own, to be killed: says that it loads, and where it is and its operator token once
 * it is up.
 *
 *     node --import tsx test/support/coordinator-process.ts PORT FOLDER
 */
const [port, dataFolder] = process.argv.slice(2)
console.log('loading')
const { startServer } = await import('../../coordinator/server.ts')
const { url, token } = await startServer({ port: Number(port), dataFolder, ownVolunteer: false })
console.log(`up ${url} ${token}`)

export {}
