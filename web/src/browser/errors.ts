// Errors in words for people.

/** A file that cannot be tagged; others can be. */
export class FileError extends Error {}
