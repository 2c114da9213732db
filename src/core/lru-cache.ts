/** The one door to the package: caches of several floors are bounded by it. */
export { LRUCache } from 'lru-cache';
