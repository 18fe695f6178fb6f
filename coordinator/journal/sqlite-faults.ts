/** What went wrong with the journal's file, as StorageErrors that say what came, what was expected, and what to do. */
import { StorageError, type StorageFault } from './journal.ts'

export function damagedError(path: string, what: string, cause?: unknown): StorageError {
  return new StorageError(
    'damaged',
    `the journal ${path} is damaged (${what}): restore a copy of it, or move it aside to begin anew`,
    { cause },
  )
}

/** What SQLite said, in words for the operator; anything that is not SQLite's passes as it is. */
export function storageError(path: string, error: unknown): unknown {
  if (error instanceof StorageError || !(error instanceof Error)) return error
  const said = error.message
  const failed = (message: string, fault: StorageFault = 'failed') => new StorageError(fault, message, { cause: error })
  // libsql's constructor throws a plain Error that ends in SQLite's code.
  if (said.startsWith('ConnectionFailed')) {
    return failed(
      `cannot open the journal ${path} (${said}): expected a file, or a folder in which this user may make one. ` +
        'Check the path and its permissions',
    )
  }
  const code = (error as { code?: unknown }).code
  if (typeof code !== 'string' || !code.startsWith('SQLITE_')) return error
  if (code.startsWith('SQLITE_FULL')) {
    return failed(
      `the journal ${path} cannot grow: the disk is full. Nothing of this write was kept. Make room on the disk`,
      'full',
    )
  }
  if (code.startsWith('SQLITE_CORRUPT')) return damagedError(path, said, error)
  if (code.startsWith('SQLITE_NOTADB')) return damagedError(path, 'it is not a SQLite file', error)
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
    return failed(
      `the journal ${path} is in use by another process: one folder belongs to one coordinator. ` +
        'End the other one, or choose another folder',
      'locked',
    )
  }
  if (code.startsWith('SQLITE_READONLY') || code.startsWith('SQLITE_CANTOPEN') || code.startsWith('SQLITE_PERM')) {
    return failed(
      `the journal ${path} cannot be written (${said}): expected that this user may write the file and its folder. ` +
        'Check their owner and permissions, and that the disk is not mounted read-only',
    )
  }
  return failed(`the journal ${path} failed (${code}: ${said}). Check the disk, then start the coordinator again`)
}
