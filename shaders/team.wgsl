// How problems share a workgroup: its lanes are cut into teams, a team a problem. `lane`, wherever it is passed on, is the
// number of a lane in its team. What a team keeps in workgroup memory lies in slots of its own.
//
// All lanes of a workgroup meet at every barrier: a team that has nothing to do there waits for the others. Most kernels
// have one team, of all lanes.

override LANES: u32 = 64u;
override TEAM: u32 = LANES;
override TEAMS: u32 = LANES / TEAM;
// The slots of a team in arrays over cells or rows.
override SLOTS: u32 = 32u;
// Elements of a problem that there is room for in the workgroup. With several teams, no problem has more.
override CAPACITY: u32 = 1024u;
// (Sizes of arrays have names: naga 30 loses count of those that are written out before the last override.)
override ALL_SLOTS: u32 = TEAMS * SLOTS;
override ALL_LIMBS: u32 = 3u * ALL_SLOTS;
override ALL_ELEMENTS: u32 = TEAMS * CAPACITY;

var<private> team: u32;
// Whether the team has no problem; and whether it only waits for others, if it has one.
var<private> is_idle: bool;
var<private> is_resting: bool;

fn slot(k: u32) -> u32 {
    return team * SLOTS + k;
}

// Takes up the problem in the dispatch's list that is this team's, if there is one. Returns the lane's number in the team.
fn join_team(group: vec3<u32>, invocation: u32) -> u32 {
    team = invocation / TEAM;
    let index = (group.y * params.columns + group.x) * TEAMS + team;
    is_idle = index >= params.count;
    is_resting = is_idle;
    if is_idle {
        loaded_zero = params.opaque_zero;
    } else {
        take(tables[params.list_at + index]);
    }
    return invocation % TEAM;
}

// Takes no part from here on: the team has no elements and only waits for others.
fn rest() {
    is_resting = true;
    part_end = part_first;
}

// Where loops over elements end that have a barrier: after the same round in all teams.
fn common_end() -> u32 {
    return select(part_end, CAPACITY, TEAMS > 1u);
}
